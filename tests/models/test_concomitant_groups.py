"""Mixtures of groups whose weights depend on variables of the group: laws, SciPy's maximum, cuts, files, refusals."""

from __future__ import annotations

from itertools import pairwise
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
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from streamem import GroupedMixture, MixtureOfRegressions, Params
from streamem.conformance import ModelSuite
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, DegenerateDataError, ParameterError, SchemaError
from streamem.core.sequences import Sequences
from streamem.estimators.loading import load_model
from streamem.families import Gaussian, Regression
from streamem.initialization import STARTS
from streamem.models.concomitant_groups import ConcomitantGroups

pytestmark = pytest.mark.filterwarnings("ignore:Best performing initialization")

Array = NDArray[Any]
TOTAL: dict[str, Any] = {"random_state": 0, "tol": 0.0, "init_params": "random"}


class TestConcomitantGroups(ModelSuite):
    """The laws of a model."""

    shared = frozenset({"components.center", "components.scale", "concomitant_box"})
    LENGTHS = (7, 1, 9, 3, 20) * 8

    def make_model(self) -> ConcomitantGroups:
        box = np.array([[-4.0, 1.0], [4.0, 9.0]])
        return ConcomitantGroups(Gaussian("diag", 1e-6), 3, STARTS["k-means++"], 2, box)

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        z = np.repeat(np.column_stack([rng.normal(size=40).clip(-4, 4), rng.uniform(1, 9, 40)]), self.LENGTHS, axis=0)
        x = 50.0 + rng.normal(size=(len(z), 2)) + 0.7 * np.digitize(z[:, :1], [-0.5, 0.5])
        x[rng.random(len(z)) < 0.1] = np.nan
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])), z)

    def make_params(self, model: Any, chunk: Chunk) -> Params:
        params = model.init(chunk, np.random.RandomState(0))
        logits = np.random.default_rng(0).normal(size=params.logits.shape)
        return params.replace(logits=logits - logits.mean(axis=0))

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        assert chunk.sequences is not None
        bounds = [(0, 0), *pairwise(chunk.sequences.offsets.tolist()), (chunk.rows, chunk.rows)]
        weights = [None if chunk.weight is None else chunk.weight[a:b] for a, b in bounds]
        parts = zip(bounds, weights, strict=True)
        return [Chunk(chunk.x[a:b], weight, None, chunk.beside(slice(a, b))) for (a, b), weight in parts]

    def repeated(self, chunk: Chunk) -> Chunk:
        sequences = Sequences(np.cumsum([0, *self.LENGTHS, *self.LENGTHS]))
        return Chunk(np.tile(chunk.x, (2, 1)), None, sequences, np.tile(chunk.covariates, (2, 1)))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)


def people(seed: int = 0, groups: int = 120) -> pd.DataFrame:
    """Repeated answers of people, who follow one of two lines; age says which."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, groups)
    age = rng.uniform(20.0, 80.0, groups)
    steep = rng.random(groups) < 1.0 / (1.0 + np.exp(-0.15 * (age - 55.0)))
    person, x = np.repeat(np.arange(groups), lengths), rng.normal(size=lengths.sum())
    y = np.where(steep[person], 1.0 + 1.5 * x, 0.5 - 0.5 * x) + 0.6 * rng.normal(size=len(x))
    return pd.DataFrame({"person": person, "age": age[person], "x": x, "y": y})


def numbers_of(model: Any) -> list[Array]:
    own = [model.weights_, model.concomitant_intercept_, model.concomitant_coef_]
    return [*own, *(np.asarray(value) for _, value in sorted(model.params_.flatten().items()))]


def fitted(data: Any, passes: int, fit: dict[str, Any] | None = None, **settings: Any) -> GroupedMixture:
    family = Regression("gaussian", response="y")
    model = GroupedMixture(family, 2, max_iter=passes, **{**TOTAL, "concomitant": ["age"], **settings})
    return model.fit(data, sequence_column="person", **(fit or {}))


def test_direct_maximization() -> None:
    """SciPy's maximum from the same start, of a log-likelihood that is written here."""
    frame = people()
    start, family = fitted(frame, 1), Regression("gaussian", response="y")
    model = fitted(frame, 2000, tol=1e-13)
    age, firsts = frame.groupby("person").age.first().to_numpy(), np.flatnonzero(frame.person.diff().to_numpy() != 0)

    def packed(found: Any) -> Array:
        alpha, gamma, own = found.concomitant_intercept_[1], found.concomitant_coef_[1, 0], found.params_
        slopes = [*family.intercept(own), *family.coef(own)[:, 0], *np.log(family.scale(own))]  # type: ignore[attr-defined]
        return np.array([alpha + 50.0 * gamma, 10.0 * gamma, *slopes])

    def fall(theta: Array) -> float:
        odds = theta[0] + theta[1] * (age - 50.0) / 10.0
        prior = log_softmax(np.column_stack([np.zeros(len(age)), odds]), axis=1)
        mean = theta[2:4] + frame.x.to_numpy()[:, None] * theta[4:6]
        density = norm.logpdf(frame.y.to_numpy()[:, None], mean, np.exp(theta[6:8]))
        return -float(logsumexp(prior + np.add.reduceat(density, firsts), axis=1).sum())

    best = minimize(fall, packed(start), method="BFGS", options={"gtol": 1e-7})
    scores = model.scores(frame)
    assert scores["log_likelihood"] == pytest.approx(-fall(packed(model)), rel=1e-12)
    assert scores["log_likelihood"] == pytest.approx(-best.fun, abs=1e-6)
    np.testing.assert_allclose(packed(model), best.x, atol=3e-3)
    assert model.bic(frame) == pytest.approx(-2 * scores["log_likelihood"] + 8 * np.log(scores["weight"]), rel=1e-12)
    assert "log-odds of each component against component 0" in model.describe()
    assert (np.diff(model.lower_bounds_) > -1e-12).all()
    assert abs(model.concomitant_coef_[1, 0]) == pytest.approx(0.15, abs=0.06)


def likelihoods(frame: pd.DataFrame, theta: Array) -> Array:
    """(g,) log-likelihoods of the groups at coef, intercept and scale of both components, α and γ."""
    age, firsts = frame.groupby("person").age.first().to_numpy(), np.flatnonzero(frame.person.diff().to_numpy() != 0)
    prior = log_softmax(np.column_stack([np.zeros(len(age)), theta[6] + theta[7] * age]), axis=1)
    mean = theta[[1, 4]] + frame.x.to_numpy()[:, None] * theta[[0, 3]]
    density = norm.logpdf(frame.y.to_numpy()[:, None], mean, theta[[2, 5]])
    return np.asarray(logsumexp(prior + np.add.reduceat(density, firsts), axis=1))


def test_standard_errors() -> None:
    """Against derivatives by differences of a likelihood that is written out; groups cut by chunks; weights."""
    frame, family = people(), Regression("gaussian", response="y")
    weight = np.random.default_rng(1).uniform(0.5, 2.0, 120)
    model = fitted(frame, 3000, {"sample_weight": weight}, tol=1e-13)
    own, age = model.params_, frame.groupby("person").age.first().to_numpy()
    told = np.column_stack([family.coef(own)[:, 0], family.intercept(own), family.scale(own)])  # type: ignore[attr-defined]
    theta = np.append(told.ravel(), [model.concomitant_intercept_[1], model.concomitant_coef_[1, 0]])
    assert model.score(frame, sample_weight=weight) == pytest.approx(
        weight @ likelihoods(frame, theta) / weight.sum(), rel=1e-10
    )
    units = np.diag([1e-3] * 7 + [2e-5])
    at = lambda step: likelihoods(frame, theta + step)  # noqa: E731
    scores = np.array([(at(u) - at(-u)) / (2 * u.max()) for u in units])
    size = units.max(axis=0)
    second = np.array([[weight @ (at(u + v) - at(u - v) - at(v - u) + at(-u - v)) for v in units] for u in units])
    observed, products = -second / (4 * np.outer(size, size)), (scores * weight) @ scores.T
    inverse = np.linalg.inv(observed)
    expected = {"observed": inverse, "opg": np.linalg.inv(products), "sandwich": inverse @ products @ inverse}
    for method, covariance in expected.items():
        errors = model.standard_errors(frame, sample_weight=weight, method=method)
        assert errors.free_parameters[-2:] == ("concomitant_intercept[1]", "concomitant_coef[1, 0]")
        assert errors.free_parameters[:4] == ("coef[0, 0]", "intercept[0]", "scale[0]", "coef[1, 0]")
        spread = np.sqrt(np.diag(covariance))
        shown = errors.covariance / np.outer(spread, spread)
        np.testing.assert_allclose(shown, covariance / np.outer(spread, spread), atol=2e-3)
        chances = 1.0 / (1.0 + np.exp(-theta[6] - theta[7] * age))
        slope = np.average([chances * (1 - chances), chances * (1 - chances) * age], axis=1, weights=weight)
        np.testing.assert_allclose(errors.weights_, np.sqrt(slope @ errors.covariance[6:, 6:] @ slope), rtol=1e-6)
    model.set_params(chunk_bytes=96)  # four rows: groups are cut
    pieces = model.standard_errors(frame, sample_weight=weight, method="sandwich").covariance
    np.testing.assert_allclose(pieces, errors.covariance, rtol=1e-5, atol=1e-6 * np.abs(pieces).max())


def test_cut_groups_threads_and_a_cluster(client: Client, tmp_path: Path) -> None:
    frame = people()
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=25)
    whole = fitted(frame, 5)
    cut = fitted(path, 5, n_threads=2, chunk_bytes=300)
    assert cut.report_.n_chunks > 20
    for one, other in zip(numbers_of(cut), numbers_of(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)
    there = fitted(path, 5, {"executor": client}, chunk_bytes=300)
    for one, other in zip(numbers_of(there), numbers_of(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(cut.predict_proba(path), cut.predict_proba(frame), atol=1e-9)
    np.testing.assert_array_equal(cut.predict(path), cut.predict(frame))
    assert cut.n_features_in_ == 3
    assert cut.feature_names_in_.tolist() == ["age", "x", "y"]


def test_five_and_five_passes_are_ten(tmp_path: Path) -> None:
    frame = people()
    ten = fitted(frame, 10)
    for passes in (5, 10):
        resumed = fitted(frame, passes, {"checkpoint": tmp_path / "run.npz"})
    ten.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    for other in (resumed, loaded):
        for one, known in zip(numbers_of(other), numbers_of(ten), strict=True):
            np.testing.assert_array_equal(one, known)
    assert loaded.score(frame) == ten.score(frame)


def test_groups_of_one_row_are_rows() -> None:
    frame = people()
    frame["person"] = np.arange(len(frame))
    grouped = fitted(frame, 2000, tol=1e-12)
    rows = MixtureOfRegressions(2, concomitant="age", **{**TOTAL, "tol": 1e-12}, max_iter=3000)
    rows.fit(frame[["age", "x", "y"]], "y")
    assert grouped.score(frame) == pytest.approx(rows.score(frame), rel=1e-8)


def test_mini_batches_accelerated_and_weights() -> None:
    frame = people(groups=400)
    plain = fitted(frame, 500, tol=1e-9)
    fast = fitted(frame, 500, {"algorithm": "squarem"}, tol=1e-9)
    assert fast.score(frame) == pytest.approx(plain.score(frame), abs=1e-5)
    online = GroupedMixture(Regression("gaussian", response="y"), 2, concomitant=["age"], **TOTAL)
    for first in range(0, 400, 50):
        batch = frame[(frame.person >= first) & (frame.person < first + 50)]
        online.partial_fit(batch, sequence_column="person")
    assert online.score(frame) > plain.score(frame) - 0.15
    twice = pd.concat([frame, frame.assign(person=frame.person + 1000)])
    heavy = fitted(frame.assign(w=2.0), 6, {"sample_weight": "w"})
    assert heavy.concomitant_coef_.shape == (2, 1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 400)
    doubled = plain.scores(twice, sample_weight=np.tile(weights, 2))["log_likelihood"]
    assert doubled == pytest.approx(2 * plain.scores(frame, sample_weight=weights)["log_likelihood"], rel=1e-12)


def test_what_cannot_be_is_refused() -> None:
    frame = people()
    with pytest.raises(DataError, match=r"rows 0 and 1 of the chunk are of one group, and its concomitant 0 is"):
        fitted(frame.assign(age=np.arange(len(frame)), person=frame.person // 2), 2)
    with pytest.raises(DataError, match="of the covariates of transitions or weights, are not finite"):
        fitted(frame.assign(age=frame.age.where(frame.person != 3)), 2)
    with pytest.raises(DegenerateDataError, match="covariate 'age' of the weights is 1 in every row"):
        fitted(frame.assign(age=1.0), 2)
    with pytest.raises(SchemaError, match="no column 'ages' to drive transitions or weights"):
        fitted(frame, 2, concomitant=["ages"])
    with pytest.raises(ParameterError, match="weight_concentration_prior is for weights that are the same"):
        fitted(frame, 2, weight_concentration_prior=2.0)
    model = fitted(frame, 2)
    with pytest.raises(ParameterError, match="concomitant excludes a stream: pass batches"):
        model.fit_stream([frame])
    with pytest.raises(ParameterError, match="no groups are drawn"):
        model.sample([3])


# --- groups that are cut, and many of them ----------------------------------------------------------------------------


def households(lengths: Array) -> Array:
    """Rows [z, x] of groups of such lengths, of which z says on which side x lies."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=len(lengths))
    side = rng.random(len(lengths)) < 1.0 / (1.0 + np.exp(-2.0 * z))
    x = np.repeat(0.4 * side, lengths) + rng.normal(size=lengths.sum())
    return np.column_stack([np.repeat(z, lengths), x])


def test_groups_larger_than_a_chunk() -> None:
    """Messages know the weights of each group, and a group is counted once, where it begins."""
    lengths = np.arange(10, 130, 10)
    x = households(lengths)
    settings: dict[str, Any] = {**TOTAL, "concomitant": 0, "max_iter": 4}
    whole = GroupedMixture(Gaussian("diag"), 2, **settings).fit(x, lengths=lengths)
    cut = GroupedMixture(Gaussian("diag"), 2, chunk_bytes=20 * 24, **settings).fit(x, lengths=lengths)
    mixed = np.array(x)
    mixed[720:, 0] += 1.0  # of the last group the chunks from there on
    with pytest.raises(
        DataError, match="rows of one group, which several chunks hold, have .* as concomitant 0; weights"
    ):
        GroupedMixture(Gaussian("diag"), 2, chunk_bytes=20 * 24, **settings).fit(mixed, lengths=lengths)
    assert cut.report_.n_chunks >= 24
    for one, other in zip(numbers_of(cut), numbers_of(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(cut.predict_proba(x, lengths), whole.predict_proba(x, lengths), atol=1e-8)
    assert cut.score(x, lengths=lengths) == pytest.approx(whole.score(x, lengths=lengths), rel=1e-10)


def test_more_groups_than_are_taken_together() -> None:
    """Every group has its own weights, whatever run of groups it is in."""
    lengths = np.full(9000, 2)
    x = households(lengths)
    whole = Chunk(x[:, 1:], None, Sequences(np.cumsum([0, *lengths])), x[:, :1])
    model = ConcomitantGroups(Gaussian("diag"), 2, STARTS["random"], 1, np.array([[-5.0], [5.0]]))
    params = model.init(whole, np.random.RandomState(0))
    params = params.replace(logits=np.array([[0.2, -3.0], [-0.2, 3.0]]))
    halves = [Chunk(whole.x[a:b], None, Sequences(np.arange(0, 9001, 2)), whole.beside(slice(a, b))) for a, b in CUTS]
    first, second = (model.e_step(params, half) for half in halves)
    together, apart = model.e_step(params, whole), first + second
    for name in ("log_likelihood", "responsibilities", "curvature", "target"):
        np.testing.assert_allclose(together[name], apart[name], rtol=1e-10, atol=1e-7)


CUTS = [(0, 9000), (9000, 18000)]
