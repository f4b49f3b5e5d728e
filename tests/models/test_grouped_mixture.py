"""Mixtures of groups against an EM in NumPy, however chunks cut the groups."""

from __future__ import annotations

import json
import warnings
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, poisson
from sklearn.exceptions import ConvergenceWarning

from streamem import GaussianMixture, GroupedMixture, Mixture, Params, models
from streamem.conformance import ModelSuite
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, NumericalError, ParameterError, SchemaError
from streamem.core.sequences import Sequences
from streamem.families import Categorical, Gaussian, Poisson
from streamem.initialization import STARTS
from streamem.kernels.tables.table_kernel import CategoricalKernel

Array = NDArray[Any]
RATES = np.array([[2.0, 5.0], [4.0, 3.0]])
EXACT: dict[str, Any] = {"tol": 1e-11, "max_iter": 2000, "random_state": 0}


def panel(seed: int = 0, groups: int = 200) -> tuple[Array, Array, Array]:
    """Counts, lengths of the groups, and their components."""
    rng = np.random.default_rng(seed)
    lengths, z = rng.integers(1, 9, groups), rng.choice(2, groups, p=[0.3, 0.7])
    return rng.poisson(RATES[np.repeat(z, lengths)]).astype(np.float64), lengths, z


def incomplete_panel(weighted: bool, missing: float) -> tuple[Array, Array, Array]:
    """Counts of which some rows are missing, lengths of the groups, and their weights."""
    x, lengths, _ = panel()
    rng = np.random.default_rng(1)
    x[rng.random(len(x)) < missing] = np.nan
    return x, lengths, rng.uniform(0.5, 2.0, len(lengths)) if weighted else np.ones(len(lengths))


@cache
def peer(weighted: bool, missing: float) -> tuple[float, Array, Array, Array]:
    """EM from rates (2.5, 4), (3.5, 3): log-likelihood, shares, rates, posteriors of groups."""
    x, lengths, weight = incomplete_panel(weighted, missing)
    starts, w, rates = np.cumsum(lengths) - lengths, np.array([0.5, 0.5]), np.array([[2.5, 4.0], [3.5, 3.0]])
    for _ in range(1500):
        rows = np.where(np.isnan(x[:, :1]), 0.0, poisson.logpmf(np.nan_to_num(x)[:, None], rates[None]).sum(axis=2))
        joint = np.add.reduceat(rows, starts) + np.log(w)
        density = np.logaddexp.reduce(joint, axis=1)
        post = np.exp(joint - density[:, None])
        total, w = float(weight @ density), weight @ post / weight.sum()
        per_row = np.repeat(post * weight[:, None], lengths, axis=0)[~np.isnan(x[:, 0])]
        rates = per_row.T @ x[~np.isnan(x[:, 0])] / per_row.sum(axis=0)[:, None]
    return total, w, rates, post


class TestGroupedMixture(ModelSuite):
    """Groups are what rows are to a mixture."""

    shared = frozenset({"components.center", "components.scale"})
    LENGTHS = (7, 1, 9, 3, 20) * 8

    def make_model(self) -> models.GroupedMixture:
        return models.GroupedMixture(Gaussian("diag", 1e-6), 3, STARTS["k-means++"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        z = np.repeat(rng.integers(3, size=len(self.LENGTHS)), self.LENGTHS)
        x = 50.0 + rng.normal(size=(len(z), 2)) + 0.7 * z[:, None]
        x[rng.random(len(z)) < 0.1] = np.nan
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])))

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        assert chunk.sequences is not None
        offsets = chunk.sequences.offsets.tolist()
        bounds = [(0, 0), *pairwise(offsets), (chunk.rows, chunk.rows)]
        return [Chunk(chunk.x[a:b], None if chunk.weight is None else chunk.weight[a:b]) for a, b in bounds]

    def repeated(self, chunk: Chunk) -> Chunk:
        return Chunk(np.vstack([chunk.x, chunk.x]), None, Sequences(np.cumsum([0, *self.LENGTHS, *self.LENGTHS])))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)


QUICK = [(None, False, 0.0), (None, False, 0.2), (None, True, 0.2), (48, True, 0.2), (400, True, 0.2)]
PANELS = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in product((None, 48, 400), (False, True), (0.0, 0.2))
]
"""Chunks of three rows are hundreds: one such panel says what the others do, which are slow."""


@pytest.mark.parametrize(("chunk_bytes", "weighted", "missing"), PANELS)
def test_em_in_numpy(chunk_bytes: int | None, weighted: bool, missing: float) -> None:
    x, lengths, weight = incomplete_panel(weighted, missing)
    total, shares, rates, post = peer(weighted, missing)
    model = GroupedMixture(Poisson(), 2, chunk_bytes=chunk_bytes, **EXACT)
    model.fit(x, lengths, sample_weight=weight if weighted else None)
    order = np.argsort(model.params_.rates[:, 0])
    np.testing.assert_allclose(model.weights_[order], shares, rtol=1e-4)
    np.testing.assert_allclose(model.params_.rates[order], rates, rtol=1e-4)
    scores = model.scores(x, lengths, sample_weight=weight if weighted else None)
    np.testing.assert_allclose(scores["log_likelihood"], total, rtol=1e-9)
    np.testing.assert_allclose(scores["weight"], weight.sum(), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(x, lengths)[:, order], post, atol=1e-4)
    np.testing.assert_array_equal(model.predict(x, lengths), order[np.argmax(post, axis=1)])
    if not weighted:
        np.testing.assert_allclose(model.score_samples(x, lengths).sum(), total, rtol=1e-9)


def test_groups_of_one_row_are_a_mixture() -> None:
    x, _, _ = panel()
    grouped = GroupedMixture(Poisson(), 2, **EXACT).fit(x, np.ones(len(x), dtype=int))
    plain = Mixture(Poisson(), 2, **EXACT).fit(x)
    np.testing.assert_allclose(grouped.score(x, np.ones(len(x), dtype=int)), plain.score(x), rtol=1e-9)


def test_a_class_that_falls_far_behind_may_win_in_the_end() -> None:
    """What is lost by 10⁴ nats within a group is not lost: groups are summed in logarithms, over chunks too."""
    x = np.concatenate([np.full(500, -0.3), np.full(500, 0.3001)])[:, None]
    for chunk_bytes in (None, 800):
        model = GroupedMixture(Gaussian("spherical"), 2, chunk_bytes=chunk_bytes)
        model.fit(np.array([[-1.0], [-1.001], [1.0], [1.001]]), [2, 2])
        assert model.predict(x, [1000]) == model.predict([[1.0]], [1])
        density = norm.logpdf(x, [[-1.0005, 1.0005]], 5e-4 * np.ones(2)).sum(axis=0)
        np.testing.assert_allclose(model.score_samples(x, [1000]), density.max(), rtol=1e-2)


def test_identifiers_in_parquet_are_remembered(tmp_path: Path) -> None:
    x, lengths, _ = panel()
    names = np.repeat([f"person {i:04d}" for i in range(len(lengths))], lengths)
    pq.write_table(pa.table({"who": names, "a": x[:, 0], "b": x[:, 1]}), tmp_path / "x.parquet", row_group_size=100)
    model = GroupedMixture(Poisson(), 2, **EXACT).fit(tmp_path / "x.parquet", sequence_column="who")
    plain = GroupedMixture(Poisson(), 2, **EXACT).fit(x, lengths)
    np.testing.assert_allclose(model.params_.rates, plain.params_.rates, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(tmp_path / "x.parquet"), plain.predict(x, lengths))
    model.predict_proba(tmp_path / "x.parquet", out=tmp_path / "p.parquet")
    stored = pq.read_table(tmp_path / "p.parquet").to_pandas().set_index("who")
    assert stored.index.tolist() == list(dict.fromkeys(names))
    np.testing.assert_array_equal(stored, model.predict_proba(tmp_path / "x.parquet"))
    model.score_samples(tmp_path / "x.parquet", out=tmp_path / "s.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), model.score_samples(tmp_path / "x.parquet"))
    with pytest.raises((SchemaError, DataError, ParameterError), match="who"):
        model.predict(x)
    model.save(tmp_path / "m.npz")
    again = GroupedMixture.load(tmp_path / "m.npz", family=Poisson())
    np.testing.assert_array_equal(again.predict(tmp_path / "x.parquet"), model.predict(tmp_path / "x.parquet"))


@pytest.mark.parametrize("algorithm", ["batch", "stepwise", "incremental", "squarem", "anderson", "auto"])
def test_every_algorithm_finds_the_groups(algorithm: str) -> None:
    x, lengths, _ = panel(groups=600)
    model = GroupedMixture(Poisson(), 2, random_state=0, chunk_bytes=2000)
    model.fit(x, lengths, algorithm=algorithm)
    np.testing.assert_allclose(np.sort(model.params_.rates[:, 0]), [2.0, 4.0], atol=0.4)


def test_a_cluster_gives_the_bits_of_threads(client: Any) -> None:
    """Groups that chunks cut too, in a fit and in answers."""
    x, lengths, _ = panel()
    fits = [
        GroupedMixture(Poisson(), 2, tol=1e-3, random_state=0, chunk_bytes=400).fit(x, lengths, executor=executor)
        for executor in ("threads", client)
    ]
    assert fits[0].params_ == fits[1].params_
    np.testing.assert_array_equal(fits[1].predict(x, lengths, executor=client), fits[0].predict(x, lengths))


def test_partial_fit_and_streams_learn_whole_groups() -> None:
    x, lengths, _ = panel(groups=600)
    model = GroupedMixture(Poisson(), 2, random_state=0)
    stops = np.cumsum(lengths)
    for a in range(0, 600, 100):
        first, stop = (stops[a - 1] if a else 0), stops[a + 99]
        model.partial_fit(x[first:stop], lengths[a : a + 100])
    np.testing.assert_allclose(np.sort(model.params_.rates[:, 0]), [2.0, 4.0], atol=0.4)
    who = np.repeat(np.arange(600), lengths)
    batches = [
        pa.record_batch({"who": who[i : i + 50], "a": x[i : i + 50, 0], "b": x[i : i + 50, 1]})
        for i in range(0, len(x), 50)
    ]
    streamed = GroupedMixture(Poisson(), 2, random_state=0).fit_stream(
        batches, sequence_column="who", columns=["a", "b"], batch_rows=300
    )
    np.testing.assert_allclose(np.sort(streamed.params_.rates[:, 0]), [2.0, 4.0], atol=0.4)


def test_sites_and_dask_give_the_same_statistics() -> None:
    x, lengths, _ = panel()
    model = GroupedMixture(Poisson(), 2, random_state=0).fit(x, lengths)
    cut = int(lengths[:77].sum())
    whole = model.expected_statistics(x, lengths)
    parts = model.expected_statistics(x[:cut], lengths[:77]) + model.expected_statistics(x[cut:], lengths[77:])
    np.testing.assert_allclose(parts.stats.responsibilities, whole.stats.responsibilities, rtol=1e-12)
    collection = da.from_array(x, chunks=(97, 2))
    np.testing.assert_array_equal(model.predict(collection, lengths), model.predict(x, lengths))


def test_a_fit_that_stops_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    x, lengths, _ = panel()
    whole = GroupedMixture(Poisson(), 2, tol=0.0, max_iter=10, random_state=0, chunk_bytes=400)
    half = GroupedMixture(Poisson(), 2, tol=0.0, max_iter=5, random_state=0, chunk_bytes=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole.fit(x, lengths)
        half.fit(x, lengths, checkpoint=tmp_path / "c.npz")
        half.set_params(max_iter=10).fit(x, lengths, checkpoint=tmp_path / "c.npz")
    assert half.params_ == whole.params_


def test_rows_are_drawn_by_group() -> None:
    x, lengths, _ = panel()
    model = GroupedMixture(Poisson(), 2, random_state=0).fit(x, lengths)
    drawn, labels = model.sample(np.full(2000, 3), random_state=1)
    assert drawn.shape == (6000, 2)
    assert labels.shape == (2000,)
    means = drawn.reshape(2000, 3, 2).mean(axis=1)
    for k in range(2):
        np.testing.assert_allclose(means[labels == k].mean(axis=0), model.params_.rates[k], rtol=0.1)
    np.testing.assert_allclose(np.bincount(labels) / 2000, model.weights_, atol=0.05)


def test_bad_input_is_named() -> None:
    x, lengths, _ = panel()
    model = GroupedMixture(Poisson(), 2, random_state=0)
    with pytest.raises(ParameterError, match="which of the"):
        model.fit(x)
    with pytest.raises(DataError, match="sum"):
        model.fit(x, lengths[:-1])
    with pytest.raises(DataError, match="counts are integers"):
        model.fit(-x, lengths)
    model.fit(x, lengths)
    with pytest.raises(ParameterError, match="lengths"):
        model.sample([0, 2])
    known = GroupedMixture(Poisson(), 2)
    known.weights_, known.params_ = np.array([0.5, 0.5]), Params(rates=np.zeros((2, 2)), empty=np.zeros(2, dtype=bool))
    with pytest.raises(NumericalError, match="group in rows"):
        known.predict(x, lengths)
    assert "GroupedMixture" in json.dumps(repr(model))


def test_gaussian_numbers_of_grouped_rows() -> None:
    """With equal labels within groups, a fit by groups separates what rows by themselves cannot."""
    rng = np.random.default_rng(3)
    z = rng.integers(2, size=300)
    x = (z.repeat(20) * 0.8 + rng.normal(size=6000))[:, None]
    grouped = GroupedMixture(Gaussian("spherical"), 2, random_state=0).fit(x, [20] * 300)
    labels = grouped.predict(x, [20] * 300)
    agreement = max((labels == z).mean(), (labels != z).mean())
    by_row = GaussianMixture(2, covariance_type="spherical", random_state=0).fit(x).predict(x)
    assert agreement > 0.95 > max((by_row == z.repeat(20)).mean(), (by_row != z.repeat(20)).mean())


@pytest.mark.parametrize("before", [None, np.log([0.2, 0.5, 0.3])])
@pytest.mark.parametrize("after", [None, np.array([-1.0, 0.0, -3.0])])
@pytest.mark.parametrize(
    ("lengths", "missing"), [([3] * 4000, 0.0), ([3] * 4000, 1e-4), ([9000, 2, 1, 7], 0.0), ([5], 0.0)]
)
@pytest.mark.variations(16, 16)
def test_groups_in_one_call_are_groups_one_by_one(
    lengths: list[int], missing: float, before: Any, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is told of the groups that the chunk cuts, and where rows are missing."""
    rng = np.random.default_rng(0)
    n, sizes = sum(lengths), (2, 4)
    params = Params(
        weights=np.array([0.5, 0.1, 0.4]),
        components=Params(
            probabilities=np.hstack([rng.dirichlet(np.ones(size), 3) for size in sizes]),
            starts=np.array([0, 2, 6]),
            empty=np.zeros(3, dtype=np.bool_),
        ),
    )
    x = np.column_stack([rng.integers(size, size=n) for size in sizes]).astype(np.float64)
    x[rng.random(n) < missing] = np.nan
    cut = Sequences(np.cumsum([0, *lengths]), opened=before is not None, continued=after is not None)
    chunk = Chunk(x, np.repeat(rng.uniform(0.5, 2.0, len(lengths)), lengths), cut)
    model = models.GroupedMixture(Categorical(sizes, missing=missing > 0), 3, STARTS["k-means++"])
    message = Boundary(before=before, after=after)
    at_once = model.e_step(params, chunk, message)
    with monkeypatch.context() as patch:
        patch.setattr(CategoricalKernel, "takes_groups", False)
        one_by_one = model.e_step(params, chunk, message)
    for name, value in one_by_one.flatten().items():
        np.testing.assert_allclose(at_once.flatten()[name], value, rtol=1e-10, err_msg=name)
