"""`concomitant=` of `MixtureOfRegressions`: SciPy's maximum, engines, files, missing values, and what is refused."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, log_softmax, logsumexp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from streamem import MixtureOfRegressions
from streamem.core.chunk import Chunk
from streamem.core.errors import CheckpointMismatchError, DataError, DegenerateDataError, ParameterError, SchemaError
from streamem.estimators.loading import load_model
from streamem.families import Regression
from streamem.initialization import STARTS
from streamem.models.concomitant_mixture import ConcomitantMixture
from streamem.models.regression_mixture import RegressionMixture

pytestmark = pytest.mark.filterwarnings("ignore:Best performing initialization")

Array = NDArray[Any]
TOTAL: dict[str, Any] = {"random_state": 0, "tol": 0.0, "init_params": "random"}


def shifted(seed: int = 0, n: int = 400, family: str = "gaussian") -> tuple[Array, Array]:
    """Rows [z, x], z far from 0, and responses: two lines, of which z says the shares."""
    rng = np.random.default_rng(seed)
    z, x = 50.0 + 10.0 * rng.normal(size=n), rng.uniform(-1.0, 1.0, n)
    steep = rng.random(n) < 1.0 / (1.0 + np.exp(-0.2 * (z - 50.0) - 0.4))
    eta = np.where(steep, 1.0 + 2.0 * x, 0.5 - 1.0 * x)
    y = eta + 0.4 * rng.normal(size=n) if family == "gaussian" else rng.poisson(np.exp(eta)).astype(float)
    return np.column_stack([z, x]), y


def numbers_of(model: Any) -> list[Array]:
    own = ("weights_", "concomitant_intercept_", "concomitant_coef_", "intercept_", "coef_", "scale_")
    return [getattr(model, name) for name in own if hasattr(model, name)]


def fitted(X: Any, y: Any, passes: int, **settings: Any) -> MixtureOfRegressions:
    return MixtureOfRegressions(2, max_iter=passes, **{**TOTAL, "concomitant": [0], **settings}).fit(X, y)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_direct_maximization(family: str) -> None:
    """SciPy's maximum of a log-likelihood that is written here, from the same start: to 1e-6, with all numbers."""
    X, y = shifted(family=family)
    z, x = X.T
    start = fitted(X, y, 1, family=family)
    model = clone(start).set_params(max_iter=3000, tol=1e-12).fit(X, y)
    spread = family == "gaussian"

    def packed(found: Any) -> Array:
        alpha, gamma = float(found.concomitant_intercept_[1]), float(found.concomitant_coef_[1, 0])
        own = [alpha + 50.0 * gamma, 10.0 * gamma, *found.intercept_, *found.coef_[:, 0]]
        return np.array([*own, *(np.log(found.scale_) if spread else [])])

    def fall(theta: Array) -> float:
        odds = theta[0] + theta[1] * (z - 50.0) / 10.0
        prior = log_softmax(np.column_stack([np.zeros(len(z)), odds]), axis=1)
        mean = theta[2:4] + x[:, None] * theta[4:6]
        if spread:
            density = -0.5 * ((y[:, None] - mean) / np.exp(theta[6:8])) ** 2 - theta[6:8] - 0.5 * np.log(2 * np.pi)
        else:
            density = y[:, None] * mean - np.exp(mean) - gammaln(y + 1)[:, None]
        return -float(logsumexp(prior + density, axis=1).sum())

    best = minimize(fall, packed(start), method="BFGS", options={"gtol": 1e-7, "maxiter": 500})
    scores = model.scores(X, y)
    assert scores["log_likelihood"] == pytest.approx(-fall(packed(model)), rel=1e-12)
    assert scores["log_likelihood"] == pytest.approx(-best.fun, abs=1e-6)
    np.testing.assert_allclose(packed(model), best.x, atol=3e-3)
    count = len(best.x)
    assert model._n_parameters() == count
    assert model.bic(X, y) == pytest.approx(-2 * scores["log_likelihood"] + count * np.log(len(y)), rel=1e-12)
    assert (np.diff(model.lower_bounds_) > -1e-12).all()
    assert model.weights_[1] == pytest.approx(model.predict_proba(X)[:, 1].mean(), abs=1e-5)
    mean = model.intercept_ + x[:, None] * model.coef_[:, 0]
    expected = (model.predict_proba(X) * (mean if spread else np.exp(mean))).sum(axis=1)
    np.testing.assert_allclose(model.predict_response(X), expected, rtol=1e-12)
    np.testing.assert_array_equal(model.transform(X), model.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


def test_without_concomitants_weights_are_plain() -> None:
    """Logits that are intercepts alone reach what shares of the rows do."""
    X, y = shifted(n=300)
    rows, rng = np.column_stack([X[:, 1], y]), np.random.RandomState
    plain = RegressionMixture(Regression(), 2, STARTS["random"])
    own = ConcomitantMixture(Regression(), 2, STARTS["random"], 0, np.empty((2, 0)))
    chunk, beside = Chunk(rows), Chunk(rows, covariates=np.empty((300, 0)))
    params, other = plain.init(chunk, rng(0)), own.init(beside, rng(0))
    for _ in range(400):
        params = plain.m_step(plain.e_step(params, chunk), params)
        other = own.m_step(own.e_step(other, beside), other)
    np.testing.assert_allclose(other.weights, params.weights, rtol=1e-9)
    np.testing.assert_allclose(own.prior_probabilities(other, beside)[0], params.weights, rtol=1e-9)
    known = plain.e_step(params, chunk).log_likelihood
    assert own.e_step(other, beside).log_likelihood == pytest.approx(known, rel=1e-12)


def test_one_and_three_components() -> None:
    X, y = shifted()
    one = MixtureOfRegressions(1, concomitant=0, init_params="random").fit(X, y)
    alone = MixtureOfRegressions(1, init_params="random").fit(X[:, 1:], y)
    assert one.score(X, y) == pytest.approx(alone.score(X[:, 1:], y), rel=1e-12)
    assert one.concomitant_coef_.tolist() == [[0.0]]
    np.testing.assert_allclose(one.standard_errors(X, y)["coef_"], alone.standard_errors(X[:, 1:], y)["coef_"])
    three = MixtureOfRegressions(3, concomitant=0, random_state=0, max_iter=40, init_params="random").fit(X, y)
    np.testing.assert_allclose(three.predict_proba(X).sum(axis=1), 1.0)
    assert three._n_parameters() == 2 * 2 + 3 * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the third line is hardly there
        assert len(three.standard_errors(X, y).free_parameters) == 2 * 2 + 3 * 3
    assert "log-odds of each component against component 0" in three.describe()


# --- wherever the rows are --------------------------------------------------------------------------------------------


def test_chunks_threads_and_a_cluster(client: Client, tmp_path: Path) -> None:
    X, y = shifted()
    path = tmp_path / "rows.parquet"
    table = pa.table({"z": X[:, 0], "x": X[:, 1], "y": y})
    pq.write_table(table, path, row_group_size=50)
    whole = fitted(X, y, 6)
    settings: dict[str, Any] = {"concomitant": ["z"], "chunk_bytes": 50 * 24}
    cut = fitted(path, "y", 6, n_threads=2, **settings)
    for one, other in zip(numbers_of(cut), numbers_of(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    there = MixtureOfRegressions(2, max_iter=6, **TOTAL, **settings).fit(path, "y", executor=client)
    for one, other in zip(numbers_of(there), numbers_of(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    frame = pd.DataFrame({"z": X[:, 0], "x": X[:, 1]})
    np.testing.assert_array_equal(cut.predict(path), cut.predict(frame, y))
    np.testing.assert_array_equal(cut.predict_proba(path, executor=client), cut.predict_proba(path))
    assert cut.feature_names_in_.tolist() == ["z", "x"]
    assert cut.n_features_in_ == whole.n_features_in_ == 2
    shuffled = pd.DataFrame({"y": y, "x": X[:, 1], "other": 0.0, "z": X[:, 0]})
    np.testing.assert_array_equal(cut.predict_proba(shuffled), cut.predict_proba(frame, y))
    np.testing.assert_array_equal(cut.predict_proba(shuffled.drop(columns="y")), cut.transform(frame))


def test_five_and_five_passes_are_ten(tmp_path: Path) -> None:
    X, y = shifted()
    ten = fitted(X, y, 10)
    for passes in (5, 10):
        resumed = MixtureOfRegressions(2, concomitant=[0], max_iter=passes, **TOTAL)
        resumed.fit(X, y, checkpoint=tmp_path / "run.npz")
    ten.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    for other in (resumed, loaded):
        for one, known in zip(numbers_of(other), numbers_of(ten), strict=True):
            np.testing.assert_array_equal(one, known)
    assert loaded.score(X, y) == ten.score(X, y)
    assert loaded.concomitant == [0] or loaded.concomitant.tolist() == [0]
    with pytest.raises(CheckpointMismatchError, match=r"concomitant: '\[0\]' there, '\[1\]' now"):
        MixtureOfRegressions(2, concomitant=[1], max_iter=12, **TOTAL).fit(X, y, checkpoint=tmp_path / "run.npz")


def test_weights_are_rows() -> None:
    X, y = shifted()
    start = fitted(X, y, 2)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    heavy, often = (copy.deepcopy(start).set_params(warm_start=True, max_iter=8) for _ in range(2))
    heavy.fit(X, y, sample_weight=weight)
    often.fit(np.repeat(X, weight.astype(int), axis=0), np.repeat(y, weight.astype(int)))
    for one, other in zip(numbers_of(heavy), numbers_of(often), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7)


def test_rows_that_lack_something_are_left_out() -> None:
    X, y = shifted()
    gappy, answers = X.copy(), y.copy()
    gappy[::7, 0], gappy[3::11, 1], answers[5::13] = np.nan, np.nan, np.nan
    whole = ~(np.isnan(gappy).any(axis=1) | np.isnan(answers))
    settings: dict[str, Any] = {"missing": "integrate", "tol": 1e-10}
    model = fitted(gappy, answers, 2000, **settings)
    known = fitted(X[whole], y[whole], 2000, **settings)
    assert model.lower_bound_ == pytest.approx(known.lower_bound_, abs=1e-7)
    order = [0, 1] if abs(model.coef_[0, 0] - known.coef_[0, 0]) < 0.5 else [1, 0]
    np.testing.assert_allclose(model.coef_[order], known.coef_, atol=1e-3)
    assert model.score_samples(gappy, answers)[0] == 0.0
    chances = model.predict_proba(gappy, answers)
    np.testing.assert_allclose(chances[0], model.weights_)
    np.testing.assert_array_equal(chances[3], model.predict_proba(X)[3])  # of z alone
    with pytest.raises(DataError, match=r"58 values of column 0, of the concomitant variables, are not finite"):
        fitted(gappy, y, 2)
    gappy[0, 0] = np.inf
    with pytest.raises(DataError, match=r"1 values of column 0, .*the first, infinite, in row 0"):
        fitted(gappy, answers, 2, missing="integrate")


def test_a_concomitant_may_explain_the_response_too() -> None:
    X, y = shifted()
    frame = pd.DataFrame({"z": X[:, 0], "x": X[:, 1], "y": y})
    both = MixtureOfRegressions(2, concomitant="z", max_iter=5, **TOTAL).fit(frame, "y", columns=["x", "z"])
    doubled = fitted(np.column_stack([X[:, 0], X[:, 1], X[:, 0]]), y, 5)
    for one, other in zip(numbers_of(both), numbers_of(doubled), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert both.coef_.shape == (2, 2)
    assert both.feature_names_in_.tolist() == ["x", "z"]
    np.testing.assert_array_equal(both.predict(frame), both.predict(frame[["z", "x"]], y))
    one = MixtureOfRegressions(2, concomitant="z", max_iter=5, **TOTAL).fit(frame, "y", columns=["x"])
    for name, other in zip(numbers_of(one), numbers_of(fitted(X, y, 5)), strict=True):
        np.testing.assert_allclose(name, other, rtol=1e-9)


def test_exposure_beside_concomitants() -> None:
    """An exposure of 1 changes nothing, one of 2 the intercepts by log 2; positions would shift."""
    X, y = shifted(family="poisson")
    frame = pd.DataFrame({"z": X[:, 0], "hours": 2.0, "x": X[:, 1]})
    plain = fitted(X, y, 300, family="poisson")
    for hours in (1.0, 2.0):
        model = fitted(frame.assign(hours=hours), y, 300, family="poisson", concomitant="z", exposure="hours")
        np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-6)
        np.testing.assert_allclose(model.intercept_, plain.intercept_ - np.log(hours), rtol=1e-6)
        np.testing.assert_allclose(model.concomitant_coef_, plain.concomitant_coef_, rtol=1e-6)
    at = list(frame.columns).index("z")
    with pytest.raises(ParameterError, match=f"exposure={at} and concomitant name the same column"):
        fitted(frame, y, 2, family="poisson", concomitant="z", exposure=at)


def test_a_file_knows_which_columns_count_twice(tmp_path: Path) -> None:
    X, y = shifted()
    frame = pd.DataFrame({"z": X[:, 0], "x": X[:, 1], "y": y})
    both = MixtureOfRegressions(2, concomitant="z", max_iter=5, **TOTAL).fit(frame, "y", columns=["x", "z"])
    both.save(tmp_path / "m.npz")
    loaded = MixtureOfRegressions.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(loaded.predict_proba(frame), both.predict_proba(frame))
    assert loaded.feature_names_in_.tolist() == ["x", "z"]


@pytest.mark.variations(1, 4)
@pytest.mark.parametrize("algorithm", ["squarem", "stepwise", "anderson", "incremental"])
def test_every_algorithm(algorithm: str) -> None:
    X, y = shifted(n=600)
    settings: dict[str, Any] = {**TOTAL, "concomitant": [0], "tol": 1e-9, "max_iter": 600}
    plain = MixtureOfRegressions(2, **settings).fit(X, y, algorithm="batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other = MixtureOfRegressions(2, **settings).fit(X, y, algorithm=algorithm)
    assert other.score(X, y) == pytest.approx(plain.score(X, y), abs=0.03 if algorithm == "stepwise" else 1e-6)


def test_mini_batches_learn() -> None:
    X, y = shifted(n=3000)
    model = MixtureOfRegressions(2, concomitant=[0], random_state=0)
    for first, stop in ((0, 6), (6, 300), *((at, at + 270) for at in range(300, 3000, 270))):  # six rows are kept
        model.partial_fit(X[first:stop], y[first:stop])
    best = fitted(X, y, 100)
    assert model.score(X, y) > best.score(X, y) - 0.01
    assert abs(model.concomitant_coef_[1, 0]) == pytest.approx(0.2, abs=0.04)


def test_sites_send_statistics() -> None:
    X, y = shifted()
    here = fitted(X, y, 3)
    parts = [here.expected_statistics(X[part], y=y[part]) for part in (slice(0, 150), slice(150, 400))]
    joined = clone(here).set_params(max_iter=4).fit(X, y)
    for one, other in zip(numbers_of(here.maximize(parts[0] + parts[1])), numbers_of(joined), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_set_by_hand() -> None:
    X, y = shifted()
    known = fitted(X, y, 20)
    own = MixtureOfRegressions(2, concomitant=[0])
    for name in ("weights_", "concomitant_intercept_", "concomitant_coef_", "coef_", "intercept_", "scale_"):
        setattr(own, name, getattr(known, name))
    assert own.score(X, y) == pytest.approx(known.score(X, y), rel=1e-10)
    with pytest.raises(SchemaError, match="X has 2 covariates beside its concomitants, and coef_ is of 1"):
        own.score(np.hstack([X, X[:, 1:]]), y)
    own.concomitant_coef_ = np.zeros((2, 2))
    with pytest.raises(ParameterError, match=r"concomitant_coef_ has shape \(2, 2\); finite numbers \(2, 1\)"):
        own.score(X, y)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    X, y = shifted()
    frame = pd.DataFrame({"z": X[:, 0], "x": X[:, 1]})
    for wrong in ([], [0, 0], [1.5], [True]):
        with pytest.raises(ParameterError, match="concomitant is .*; it must be a list of different columns, by name"):
            MixtureOfRegressions(2, concomitant=wrong).fit(X, y)
    with pytest.raises(SchemaError, match=r"no column 'age' on which the weights could depend; it has \['z', 'x'\]"):
        MixtureOfRegressions(2, concomitant=["age"]).fit(frame, y)
    with pytest.raises(SchemaError, match=r"it has no names: pass positions"):
        MixtureOfRegressions(2, concomitant=["age"]).fit(X, y)
    with pytest.raises(SchemaError, match=r"has 2 columns, and concomitant variables were asked for in columns \[2\]"):
        MixtureOfRegressions(2, concomitant=[2]).fit(X, y)
    with pytest.raises(SchemaError, match="all concomitant variables; a response needs a covariate"):
        MixtureOfRegressions(2, concomitant=[0, 1]).fit(X, y)
    with pytest.raises(DegenerateDataError, match="covariate 'z' of the weights is 1 in every row"):
        MixtureOfRegressions(2, concomitant=["z"]).fit(frame.assign(z=1.0), y)
    with pytest.raises(ParameterError, match="weight_concentration_prior is for weights that are the same in all rows"):
        MixtureOfRegressions(2, concomitant=[0], weight_concentration_prior=2.0).fit(X, y)
    with pytest.raises(ParameterError, match="columns chooses by name, and concomitant is"):
        MixtureOfRegressions(2, concomitant=[0]).fit(frame, y, columns=["x"])
    model = fitted(X, y, 2)
    with pytest.raises(SchemaError, match="X has 1 features, but MixtureOfRegressions is expecting 2 features"):
        model.predict(X[:, 1:], y)


# --- standard errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "method"), [("gaussian", "observed"), ("poisson", "opg")])
def test_standard_errors(family: str, method: str) -> None:
    """Against second derivatives of the log-likelihood, and products of scores, by differences of log-densities."""
    X, y = shifted(family=family)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, len(y))
    model = MixtureOfRegressions(2, family, concomitant=[0], **{**TOTAL, "tol": 1e-13}, max_iter=5000)
    model.fit(X, y, weight)
    names = ["concomitant_intercept_", "concomitant_coef_", "intercept_", "coef_", "scale_"][
        : 4 + (family == "gaussian")
    ]
    places = [(name, at) for name in names for at in np.ndindex(getattr(model, name).shape)]
    places = [(name, at) for name, at in places if not name.startswith("concomitant") or at[0] == 1]
    size = np.array([1e-5 if name == "concomitant_coef_" else 5e-4 for name, _ in places])

    def rows_at(step: Array) -> Array:
        own = MixtureOfRegressions(2, family, concomitant=[0])
        for name in ["weights_", *names]:
            setattr(own, name, np.array(getattr(model, name)))
        for (name, at), moved in zip(places, step, strict=True):
            getattr(own, name)[at] += moved
        return own.score_samples(X, y)

    units = np.diag(size)
    if method == "opg":
        scores = np.array([(rows_at(u) - rows_at(-u)) / (2 * u.max()) for u in units])
        information = (scores * weight) @ scores.T
    else:
        total = lambda step: float(weight @ rows_at(step))  # noqa: E731
        information = -np.array(
            [[total(u + v) - total(u - v) - total(v - u) + total(-u - v) for v in units] for u in units]
        ) / (4 * np.outer(size, size))
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    errors = model.standard_errors(X, y, sample_weight=weight, method=method)
    found = [errors[name][at] for name, at in places]
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert errors["concomitant_coef_"][0].tolist() == [0.0]
    assert set(errors.free_parameters) > {"concomitant_intercept[1]", "concomitant_coef[1, 0]"}
    alpha, gamma = errors.free_parameters.index("concomitant_intercept[1]"), -1
    chances = model.predict_proba(X)[:, 1]
    slope = np.average(np.array([chances * (1 - chances), chances * (1 - chances) * X[:, 0]]), axis=1, weights=weight)
    of_both = errors.covariance[np.ix_([alpha, gamma], [alpha, gamma])]
    np.testing.assert_allclose(errors["weights_"], np.sqrt(slope @ of_both @ slope), rtol=1e-6)


def test_standard_errors_of_rows_that_lack_something() -> None:
    """Incomplete rows tell nothing; nothing is told twice."""
    X, y = shifted()
    gappy, answers = X.copy(), y.copy()
    gappy[::7, 0], gappy[3::11, 1], answers[5::13] = np.nan, np.nan, np.nan
    whole = ~(np.isnan(gappy).any(axis=1) | np.isnan(answers))
    model = fitted(X[whole], y[whole], 3000, tol=1e-13, missing="integrate")
    with_gaps, without = (model.standard_errors(*rows) for rows in ((gappy, answers), (X[whole], y[whole])))
    for name in ("coef_", "concomitant_coef_", "concomitant_intercept_", "scale_"):
        np.testing.assert_allclose(with_gaps[name], without[name], rtol=1e-5)
    assert "concomitant_coef_[1, 0]" in str(model.summary(X[whole], y[whole]))
    assert model.diagnose(X[whole], y[whole]).similarity.shape == (2, 2)
