"""Categorical data: the laws, brute-force latent classes, the survey, the prior, and what is refused."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray
from scipy import stats as scipy_stats

import streamem
from streamem.conformance import FamilySuite, ModelSuite, Quadrature
from streamem.conformance.tolerance import tolerance
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ImpossibleValueError, ParameterError
from streamem.core.ports import ChunkDone
from streamem.estimators.making import family_of
from streamem.executors import ThreadsExecutor
from streamem.families import Categorical, Gaussian
from streamem.initialization import STARTS
from streamem.models import Mixture
from streamem.running.survey import surveyed_family
from streamem.sources import ReadOptions, open_source

Array = NDArray[Any]
SIZES = (2, 5, 3)
BOUNDS = np.array([0, 2, 7, 10])


def draw_params(rng: np.random.Generator, k: int) -> Params:
    parts = [rng.dirichlet(np.ones(size), size=k) for size in SIZES]
    return Params(probabilities=np.hstack(parts), starts=BOUNDS)


def draw_rows(rng: np.random.Generator, n: int) -> Array:
    return np.column_stack([rng.choice(size, n, p=rng.dirichlet(np.ones(size))) for size in SIZES]).astype(np.float64)


def table(params: Params, x: Array) -> Array:
    """Log-probabilities (n, K), element by element."""
    p = params.probabilities
    chosen = BOUNDS[:-1] + x.astype(int)
    return np.array([[sum(np.log(p[k, place]) for place in row) for k in range(len(p))] for row in chosen])


@pytest.mark.parametrize("prior", [1.0, 3.0])
class TestCategorical(FamilySuite):
    shared = frozenset({"starts"})

    @pytest.fixture(autouse=True)
    def _choose(self, prior: float) -> None:
        self.prior = prior

    def make_family(self) -> Categorical:
        return Categorical(SIZES, self.prior, total_weight=257.0)

    def make_params(self, rng: np.random.Generator) -> Params:
        return draw_params(rng, 3)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return draw_rows(rng, n)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        changed = params.probabilities * np.exp(scale * rng.normal(size=params.probabilities.shape))
        total = np.add.reduceat(changed, BOUNDS[:-1], axis=1)
        return params.replace(probabilities=changed / np.repeat(total, np.diff(BOUNDS), axis=1))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no row a million spreads away."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return table(params, x)

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array(list(itertools.product(*map(range, SIZES))), dtype=np.float64)
        return Quadrature(x, np.ones(len(x)))


class TestMixtureOfCategoricals(ModelSuite):
    shared = frozenset({"components.starts"})

    def make_model(self) -> Mixture:
        return Mixture(Categorical(SIZES), 2, STARTS["random"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        rows = [draw_rows(rng, n), draw_rows(rng, n)]
        return Chunk(np.where(rng.random((n, 1)) < 0.4, *rows))


def test_one_column_is_scipys_multinomial_of_one_trial() -> None:
    params = Params(probabilities=[[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], starts=[0, 3])
    codes = np.array([0.0, 1.0, 2.0, 2.0])
    expected = [[scipy_stats.multinomial.logpmf(np.eye(3)[int(c)], 1, p) for p in params.probabilities] for c in codes]
    assert Categorical().log_prob(params, codes[:, None]) == pytest.approx(np.array(expected), rel=1e-13)


@pytest.mark.parametrize("weighted", [True, False])
def test_latent_classes_are_those_of_em_written_out(weighted: bool) -> None:
    """One-hot EM in plain NumPy from the same start, 25 iterations."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((3000, 1)) < 0.4, draw_rows(rng, 3000), draw_rows(rng, 3000))
    weight = rng.uniform(0, 2, 3000) if weighted else np.ones(3000)
    hot = np.hstack([np.eye(size)[x[:, j].astype(int)] for j, size in enumerate(SIZES)])
    model, start = Mixture(Categorical(SIZES), 2, STARTS["random"]), draw_params(rng, 2)
    w, p = np.array([0.5, 0.5]), start.probabilities
    params = Params(weights=w, components=start)
    for _ in range(25):
        joint = np.log(w) + hot @ np.log(p).T
        density = np.logaddexp.reduce(joint, axis=1)
        resp = np.exp(joint - density[:, None]) * weight[:, None]
        stats = model.e_step(params, Chunk(x.astype(np.float32), weight if weighted else None))
        assert stats.log_likelihood == pytest.approx(weight @ density, rel=1e-12)
        w, p = resp.sum(axis=0) / weight.sum(), resp.T @ hot / resp.sum(axis=0)[:, None]
        params = model.m_step(stats, params)
    assert params.weights == pytest.approx(w, rel=1e-9)
    assert params.components.probabilities == pytest.approx(p, rel=1e-9)


def test_one_class_has_the_shares_of_the_data() -> None:
    x = draw_rows(np.random.default_rng(1), 400)
    mix = streamem.Mixture(Categorical(), 1).fit(x)
    shares = np.concatenate([np.bincount(x[:, j].astype(int), minlength=s) / 400 for j, s in enumerate(SIZES)])
    assert mix.params_.probabilities == pytest.approx(shares[None], rel=tolerance(np.float64, 400))
    assert mix.params_.starts.tolist() == [0, *np.cumsum(SIZES)]


def test_zeros_stay_and_others_never_become_zero() -> None:
    """A code that no row holds keeps 2⁻⁴⁰; one that was excluded stays excluded."""
    previous = Params(probabilities=[[0.0, 0.5, 0.25, 0.25]], starts=[0, 4])
    family, x = Categorical(4), np.array([[1.0], [2.0], [1.0]])
    found = family.maximize(family.stats(previous, x, np.ones((3, 1))), previous).probabilities[0]
    assert found[0] == 0.0
    assert found[3] == 2.0**-40
    assert found[1:3] == pytest.approx(np.array([2, 1]) / 3 * (1 - 2.0**-40), rel=1e-15, abs=0)
    assert family.log_prob(Params(probabilities=[[0.0, 1.0]], starts=[0, 2]), np.array([[0.0]]))[0, 0] == -np.inf


def test_the_prior_adds_pseudo_counts() -> None:
    """Dirichlet(2.5): (n + 1.5)/(N + 1.5·V), in a fit of all data and in averages of its statistics."""
    x = np.repeat([0.0, 1.0, 2.0], [5, 3, 2])[:, None]
    mix = streamem.Mixture(Categorical(prior=2.5), 1).fit(x)
    expected = (np.array([5, 3, 2]) + 1.5) / 14.5
    assert mix.params_.probabilities[0] == pytest.approx(expected, rel=1e-14)
    family = family_of(mix, mix._now())
    stats = family.stats(mix.params_, x, np.ones((10, 1)))
    assert family.maximize(0.1 * stats, mix.params_).probabilities[0] == pytest.approx(expected, rel=1e-14)
    assert family.penalty(mix.params_, stats) == pytest.approx(-1.5 * np.log(expected).sum())


def test_a_prior_online_is_weighed_against_rows_that_someone_names() -> None:
    """Averages of statistics sum to 1: an unweighed prior would outweigh them."""
    rng = np.random.default_rng(5)
    batches = [rng.choice(3, (100, 1), p=[0.7, 0.2, 0.1]).astype(np.float64) for _ in range(40)]
    with pytest.raises(ParameterError, match="a prior of 3.0 is weighed against the data"):
        streamem.Mixture(Categorical(3, prior=3.0), 1).partial_fit(batches[0])
    mix = streamem.Mixture(Categorical(3, prior=3.0, total_weight=4000), 1)
    for rows in batches:
        mix.partial_fit(rows)
    expected = (np.bincount(np.concatenate(batches)[:, 0].astype(int)) + 2) / 4006
    assert mix.params_.probabilities[0] == pytest.approx(expected, abs=0.03)


def test_em_with_a_prior_never_lowers_its_objective() -> None:
    """Which the estimator checks after every iteration; 200 of them."""
    rng = np.random.default_rng(4)
    x = np.where(rng.random((500, 1)) < 0.4, draw_rows(rng, 500), draw_rows(rng, 500))
    mix = streamem.Mixture(Categorical(prior=4.0), 3, random_state=0, init_params="random", max_iter=3000, tol=1e-9)
    assert mix.fit(x).converged_


# --- the survey ------------------------------------------------------------------------------------------------------


def ignored(done: ChunkDone) -> None:
    """No progress is shown."""


def test_the_survey_finds_the_largest_codes_wherever_they_are() -> None:
    """In the last chunk; NaN rows tell nothing; what is known already is not looked for."""
    x = np.zeros((1000, 2))
    x[999] = [7, 3]
    x[5] = np.nan
    source = open_source(x, weight=np.full(1000, 0.5), options=ReadOptions(chunk_bytes=1600))
    with ThreadsExecutor(2) as executor:
        found = surveyed_family(Categorical(), source.chunks(), executor, None, ignored)
        assert isinstance(found, Categorical)
        assert (found.n_categories, found.total_weight, found.is_surveyed) == ((8, 4), 499.5, True)
        for known in (found, Categorical(9), Gaussian()):
            assert surveyed_family(known, source.chunks(), executor, None, ignored) is known
        with_prior = surveyed_family(Categorical(9, prior=2.0), source.chunks(), executor, None, ignored)
    assert (with_prior.n_categories, with_prior.total_weight) == (9, 499.5)  # type: ignore[attr-defined]
    assert not Categorical().is_surveyed
    assert Gaussian().is_surveyed


def test_a_survey_names_what_no_category_is() -> None:
    x = np.zeros((1000, 2))
    x[300, 1] = -2.0
    source = open_source(pa.table({"a": x[:, 0], "b": x[:, 1]}), options=ReadOptions(chunk_bytes=1600))
    words = r"chunk 3 \(rows 300–399\): column 1 'b' of row 300 holds -2; codes of categories are integers >= 0"
    with ThreadsExecutor(2) as executor, pytest.raises(ImpossibleValueError, match=words):
        surveyed_family(Categorical(), source.chunks(), executor, source.schema.names, ignored)


def test_files_give_the_bits_of_arrays(tmp_path: Path) -> None:
    """Zarr and Parquet of bytes, chunk by chunk, the largest code in the last; saved, loaded, scored."""
    rng = np.random.default_rng(2)
    x = np.where(rng.random((4000, 1)) < 0.4, draw_rows(rng, 4000), draw_rows(rng, 4000)).astype(np.uint8)
    x[3999] = [1, 9, 2]
    array = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="u1", chunks=(500, 3))
    array[:] = x
    pq.write_table(pa.table({c: x[:, i] for i, c in enumerate("abc")}), tmp_path / "x.parquet", row_group_size=500)
    fits = [
        streamem.Mixture(Categorical(), 2, random_state=0, init_params="random", chunk_bytes=500 * 12, tol=1e-5)
        .set_params(max_iter=500)
        .fit(data)
        for data in (x, tmp_path / "x.zarr", tmp_path / "x.parquet")
    ]
    assert {fit.report_.n_chunks for fit in fits} == {8}
    assert all(fit.params_ == fits[0].params_ for fit in fits)
    fits[0].save(tmp_path / "m.npz")
    again = streamem.Mixture.load(tmp_path / "m.npz", family=Categorical())
    assert again.score(x) == fits[0].score(x)
    scores = again.scores(x)
    assert scores["aic"] + 2 * scores["log_likelihood"] == pytest.approx(2 * (2 * (15 - 3) + 1))
    assert "look-ups" in fits[0].report_.setting["arithmetic"]


def test_it_learns_online_from_what_it_was_told() -> None:
    """Codes that the first batches lack are possible later; without a number of categories it asks for one."""
    rng = np.random.default_rng(3)
    mix = streamem.Mixture(Categorical(6), 2, random_state=0, init_params="random")
    for _ in range(30):
        mix.partial_fit(rng.integers(0, 2, (60, 2)).astype(np.float64))
    mix.partial_fit(np.full((60, 2), 5.0))
    assert np.isfinite(mix.lower_bound_)
    with pytest.raises(ParameterError, match=r"give it beforehand, .* as n_categories=\.\.\."):
        streamem.Mixture(Categorical(), 2, init_params="random").partial_fit(np.zeros((60, 2)))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5.0, r"holds 5; codes 0 … 4 are known here: pass n_categories=6"),
        (-1.0, "holds -1; codes of categories are integers 0 … 4 here"),
        (1.5, "holds 1.5; codes of categories are integers"),
    ],
)
def test_impossible_codes(value: float, words: str) -> None:
    x = np.where(np.random.default_rng(0).random((900, 3)) < 0.5, 0.0, [1.0, 4.0, 2.0]).astype(np.float32)
    mix = streamem.Mixture(Categorical(SIZES), 2, random_state=0, init_params="random", chunk_bytes=3600)
    mix.set_params(max_iter=2000).fit(x)
    x[700, 1] = value
    with pytest.raises(ImpossibleValueError, match=f"column 1 {words}"):
        mix.family.log_prob(mix.params_, x)
    for question in (mix.predict, mix.score, mix.fit):
        with pytest.raises(DataError, match=words):
            question(x)
    with pytest.raises(DataError, match=r"chunk 2 \(rows 600–899\): column 1 of row 700 holds"):
        mix.predict(x)


@pytest.mark.parametrize("n_categories", [0, 2.5, (3, 0), "many", ()])
def test_impossible_numbers_of_categories(n_categories: Any) -> None:
    with pytest.raises(ParameterError, match="n_categories is"):
        Categorical(n_categories)


def test_other_mistakes() -> None:
    with pytest.raises(ParameterError, match=r"prior is 0\.5; it must be a number >= 1"):
        Categorical(prior=0.5)
    with pytest.raises(ParameterError, match="total_weight is 0"):
        Categorical(total_weight=0)
    with pytest.raises(ParameterError, match="n_categories has 2 numbers for 3 columns"):
        Categorical((2, 2)).stats(None, np.zeros((4, 3)), np.ones((4, 1)))
    assert vars(pickle.loads(pickle.dumps(Categorical(SIZES, 2.0)))) == vars(Categorical(list(SIZES), 2.0))


def test_rows_of_zeros_and_of_nan_are_let_through() -> None:
    params = draw_params(np.random.default_rng(0), 2)
    assert np.isfinite(Categorical().log_prob(params, np.zeros((3, 3)))).all()
    Categorical().log_prob(params, np.full((3, 3), np.nan))
