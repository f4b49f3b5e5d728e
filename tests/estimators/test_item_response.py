"""`ItemResponse` on the Law School Admission Test, section 6, and as every estimator is used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from helpers.published_tables import lsat
from streamem import ItemResponse
from streamem.core.errors import DataError, ParameterError
from streamem.estimators.loading import load_model
from streamem.running.reached import NoMaximumWarning

Array = NDArray[Any]
EXACT: dict[str, Any] = {"tol": 1e-13, "max_iter": 5000}


def likelihood(slopes: Array, intercepts: Array, patterns: Array, counts: Array) -> float:
    """Marginal log-likelihood on 61 equally spaced nodes."""
    nodes = np.linspace(-6.0, 6.0, 61)
    weights = np.exp(-(nodes**2) / 2)
    eta = np.outer(nodes, slopes) + intercepts
    joint = patterns @ eta.T - np.logaddexp(0.0, eta).sum(axis=1)
    return float(counts @ np.log(np.exp(joint) @ (weights / weights.sum())))


def test_two_parameters() -> None:
    """Estimates by an independent EM, standard errors as printed by R's ltm; and SciPy's maximum on other nodes."""
    patterns, counts = lsat()
    model = ItemResponse(**EXACT).fit(patterns, sample_weight=counts)
    assert model.scores(patterns, sample_weight=counts)["log_likelihood"] == pytest.approx(-2466.653377, abs=2e-6)
    np.testing.assert_allclose(model.discrimination_, [0.8257, 0.7227, 0.8909, 0.6884, 0.6569], atol=5e-5)
    errors = model.standard_errors(patterns, sample_weight=counts)
    np.testing.assert_allclose(errors["discrimination_"], [0.2581, 0.1867, 0.2326, 0.1852, 0.2100], atol=2e-4)

    def objective(free: Array) -> float:
        return -likelihood(free[:5], free[5:], patterns, counts)

    start = np.concatenate([model.discrimination_, -model.discrimination_ * model.difficulty_]) + 0.05
    best = minimize(objective, start, method="BFGS", options={"gtol": 1e-6})
    assert -best.fun == pytest.approx(-2466.653377, abs=2e-5)
    np.testing.assert_allclose(model.discrimination_, best.x[:5], atol=2e-4)


def test_rasch() -> None:
    patterns, counts = lsat()
    model = ItemResponse("rasch", **EXACT).fit(patterns, sample_weight=counts)
    assert model.scores(patterns, sample_weight=counts)["log_likelihood"] == pytest.approx(-2466.937600, abs=2e-6)
    np.testing.assert_allclose(model.discrimination_, 0.75513, atol=5e-6)
    assert model._n_parameters() == 6
    # Of Rasch's model the number of right answers is sufficient for the ability.
    abilities = model.transform(patterns)[:, 0]
    for score in range(6):
        same = abilities[patterns.sum(axis=1) == score]
        assert np.ptp(same) < 1e-12
    assert model.standard_errors(patterns, sample_weight=counts)["discrimination_"].shape == (5,)


def test_people_and_patterns_are_the_same(tmp_path: Path, client: Any) -> None:
    """A thousand people, the patterns with counts, files, patterns found in a pass, and workers."""
    patterns, counts = lsat()
    people = np.repeat(patterns, counts.astype(int), axis=0)
    names = [f"item {j}" for j in range(1, 6)]
    pq.write_table(pa.table(dict(zip(names, people.T, strict=True))), tmp_path / "lsat.parquet", row_group_size=300)
    expected = ItemResponse(**EXACT).fit(patterns, sample_weight=counts)
    for data, settings in ((people, {}), (tmp_path / "lsat.parquet", {}), (people, {"compress": True})):
        model = ItemResponse(**EXACT, **settings).fit(data)
        np.testing.assert_allclose(model.discrimination_, expected.discrimination_, atol=1e-5)
    assert model.report_.n_patterns == len(patterns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here = ItemResponse(tol=0.0, max_iter=4).fit(tmp_path / "lsat.parquet")
        there = ItemResponse(tol=0.0, max_iter=4).fit(tmp_path / "lsat.parquet", executor=client)
    assert here.discrimination_.tobytes() == there.discrimination_.tobytes()
    expected.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    np.testing.assert_array_equal(loaded.transform(patterns), expected.transform(patterns))
    assert "5 items, abilities at 41 nodes, 2pl, 10 free parameters" in loaded.describe()
    loaded.abilities(tmp_path / "lsat.parquet", out=tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["ability", "standard_deviation"]


def test_missing_answers_and_other_algorithms() -> None:
    """Answers that are missing drop out; SQUAREM comes to the same maximum."""
    patterns, counts = lsat()
    people = np.repeat(patterns, counts.astype(int), axis=0)
    gone = np.where(np.random.default_rng(0).random(people.shape) < 0.2, np.nan, people)
    model = ItemResponse(missing="integrate", **EXACT).fit(gone)
    assert model.score(gone) > model.score(people)
    whole = ItemResponse(**EXACT).fit(people)
    assert np.abs(model.difficulty_ - whole.difficulty_).max() < 1.0
    fast = ItemResponse(**EXACT).fit(people, algorithm="squarem")
    assert fast.lower_bound_ == pytest.approx(whole.lower_bound_, abs=1e-11)
    with pytest.raises(DataError, match=r'missing="integrate"'):
        ItemResponse().fit(gone)


def test_what_cannot_be() -> None:
    with pytest.raises(ParameterError, match="model is '3pl'"):
        ItemResponse("3pl").fit([[0, 1], [1, 0]])
    with pytest.raises(ParameterError, match="n_nodes is 1"):
        ItemResponse(n_nodes=1).fit([[0, 1], [1, 0]])
    with pytest.raises(DataError, match="an answer is 1, right, or 0, wrong"):
        ItemResponse().fit([[0, 1, 1], [2, 0, 1]])
    with pytest.raises(AttributeError, match="no classes to predict"):
        _ = ItemResponse().predict


@pytest.mark.parametrize(("model", "items"), [("2pl", 2), ("rasch", 1)])
def test_fewer_items_than_tell_their_curves_are_named(model: str, items: int) -> None:
    with pytest.warns(NoMaximumWarning, match=f"n_features = {items} items do not tell difficulties"):
        ItemResponse(model).fit(people(200)[:, :items])


@pytest.mark.parametrize("model", ["2pl", "rasch"])
def test_an_item_that_all_answer_alike_is_named(model: str) -> None:
    x = people(200)
    x[:, 4] = 1.0
    with pytest.warns(NoMaximumWarning, match=r"of items \[4\] the likelihood has no maximum"):
        found = ItemResponse(model).fit(x)
    others = ItemResponse(model).fit(np.delete(x, 4, axis=1))
    assert np.delete(found.difficulty_, 4) == pytest.approx(others.difficulty_, abs=1e-2)


def people(n: int) -> Array:
    """Answers (n, 6) of people whose items differ in difficulty and in discrimination."""
    rng = np.random.default_rng(0)
    slopes, difficulties = np.linspace(0.8, 1.8, 6), np.linspace(-1.5, 1.5, 6)
    abilities = rng.normal(size=(n, 1))
    right: Array = rng.random((n, 6)) < 1.0 / (1.0 + np.exp(-slopes * (abilities - difficulties)))
    return right.astype(np.float64)


@pytest.mark.parametrize("kind", ["2pl", "rasch"])
def test_people_in_a_stream(kind: str, tmp_path: Path) -> None:
    """Mini-batches lead to the maximum of batch EM, the closer the more often they came, over a saved model too."""
    answers = people(8_000)
    whole = ItemResponse(kind).fit(answers)
    batches, path = np.split(answers, 20), tmp_path / "m.npz"
    streamed = ItemResponse(kind).fit_stream(batches, batch_rows=400, checkpoint=path)
    stepped = ItemResponse(kind)
    for batch in batches:
        stepped.partial_fit(batch)
    assert stepped.discrimination_.tobytes() == streamed.discrimination_.tobytes()
    gap = whole.score(answers) - streamed.score(answers)
    resumed = load_model(path).fit_stream(iter(batches), batch_rows=400)
    assert 0.0 < whole.score(answers) - resumed.score(answers) < gap / 2
    assert resumed.report_.n_rows == 16_000


def test_one_mini_batch_is_one_iteration() -> None:
    """The M-step of a mini-batch is that of batch EM; missing answers drop out of both."""
    answers = people(400)
    answers[np.random.default_rng(1).random(answers.shape) < 0.1] = np.nan
    for kind in ("2pl", "rasch"):
        settings: dict[str, Any] = {"missing": "integrate", "max_iter": 1, "compress": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            once = ItemResponse(kind, **settings).fit(answers)
        step = ItemResponse(kind, **settings).partial_fit(answers)
        np.testing.assert_allclose(step.discrimination_, once.discrimination_, rtol=1e-12)
        np.testing.assert_allclose(step.difficulty_, once.difficulty_, rtol=1e-12)
