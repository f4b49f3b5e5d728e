"""Poisson and Bernoulli: the laws, SciPy, printed numbers, zeros, and what they refuse."""

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
from streamem.core.errors import DataError, ImpossibleValueError
from streamem.core.ports import Family
from streamem.families import Bernoulli, Poisson
from streamem.families.prior_poisson import PriorPoisson
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]


class TestPoisson(FamilySuite):
    def make_family(self) -> Poisson:
        return Poisson()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(rates=rng.uniform(1.0, 9.0, (3, 2)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.poisson([2.0, 6.0], (n, 2)).astype(np.float64)

    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return Params(rates=params.rates * np.exp(scale * rng.normal(size=params.rates.shape)))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.poisson.logpmf(x[:, None, :], params.rates).sum(axis=2)

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array(list(itertools.product(range(60), repeat=2)), dtype=np.float64)
        return Quadrature(x, np.ones(len(x)))


class TestPoissonWithPrior(TestPoisson):
    """A gamma prior, weighed against twice the rows."""

    def make_family(self) -> Poisson:
        return PriorPoisson(np.full((3, 2), 3.0), np.full((3, 2), 0.5), total_weight=2.0 * self.n_rows)


class TestBernoulli(FamilySuite):
    def make_family(self) -> Bernoulli:
        return Bernoulli()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(probabilities=rng.uniform(0.1, 0.9, (3, 4)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return (rng.random((n, 4)) < [0.2, 0.5, 0.7, 0.9]).astype(np.float64)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        odds = np.log(params.probabilities) - np.log1p(-params.probabilities)
        return Params(probabilities=1 / (1 + np.exp(-odds - scale * rng.normal(size=odds.shape))))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no row a million spreads away; the least likely one is finite."""
        found = Bernoulli().log_prob(Params(probabilities=[[1e-300, 1 - 1e-16]]), np.array([[1.0, 0.0]]))
        assert found[0, 0] == pytest.approx(np.log(1e-300) + np.log(2.0**-53), rel=1e-14)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.bernoulli.logpmf(x[:, None, :], params.probabilities).sum(axis=2)

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
        return Quadrature(x, np.ones(len(x)))


class TestMixtureOfPoissons(ModelSuite):
    def make_model(self) -> Mixture:
        return Mixture(Poisson(), 2, STARTS["kmeans"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return Chunk(rng.poisson(np.where(rng.random((n, 1)) < 0.4, 2.0, 6.0), (n, 2)).astype(np.float64))


class TestMixtureOfBernoullis(ModelSuite):
    def make_model(self) -> Mixture:
        return Mixture(Bernoulli(), 2, STARTS["random"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        p = np.where(rng.random((n, 1)) < 0.4, 0.2, 0.8)
        return Chunk((rng.random((n, 5)) < p).astype(np.float64))


# --- Poisson ---------------------------------------------------------------------------------------------------------


DEATHS, DAYS = np.arange(10.0)[:, None], np.array([162.0, 267, 271, 185, 111, 61, 27, 8, 3, 1])
"""Deaths a day of women over 80 in The Times, 1910–1912 (Hasselblad 1969, J. Am. Stat. Assoc. 64, table 1)."""


def test_plain_em_on_the_times() -> None:
    """A step below 1e-7 first at iteration 2113; the maximum to the digits printed."""
    model, chunk = Mixture(Poisson(), 2, STARTS["random"]), Chunk(DEATHS, DAYS)
    params = Params(weights=np.array([0.5, 0.5]), components=Params(rates=[[1.0], [3.0]]))
    before, small = np.array([0.5, 1.0, 3.0]), 0
    for iteration in range(1, 10_001):
        stats = model.e_step(params, chunk)
        params = model.m_step(stats, params)
        theta = np.array([params.weights[0], *params.components.rates.ravel()])
        length = float(np.linalg.norm(theta - before))
        small = iteration if not small and length < 1e-7 else small
        if length < 1e-10:
            break
        before = theta
    assert small == 2113
    assert theta == pytest.approx((0.3598854, 1.2560951, 2.6634044), abs=6e-8)
    assert stats.log_likelihood == pytest.approx(-1989.945859883, abs=6e-10)


@pytest.mark.slow
def test_the_estimator_on_the_times() -> None:
    """The maximum is so flat that a log-likelihood known to 1e-12 leaves 1e-5 of a rate open."""
    mix = streamem.Mixture(Poisson(), 2, tol=1e-13, max_iter=20_000, random_state=0).fit(DEATHS, sample_weight=DAYS)
    assert np.sort(mix.params_.rates[:, 0]) == pytest.approx((1.2560951, 2.6634044), abs=5e-5)
    assert mix.lower_bound_ * 1096 == pytest.approx(-1989.945859883, abs=1e-8)


def test_large_counts() -> None:
    """Ten thousand to 1e15: what a table of factorials does not hold; rounding as the kernel says."""
    rates = np.array([[1e4, 3e9], [2e4, 1e12]])
    x = np.array([[10_050.0, 3e9 + 17], [1023.0, 1024.0], [1024.0, 1e15]])
    found = Poisson().log_prob(Params(rates=rates), x)
    expected = scipy_stats.poisson.logpmf(x[:, None, :], rates).sum(axis=2)
    assert np.allclose(
        found, expected, rtol=tolerance(np.float64, 64), atol=Poisson().kernel(Params(rates=rates)).rounding
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_the_e_step_of_a_whole_chunk_is_that_of_its_blocks(weighted: bool) -> None:
    """`Mixing` (with the base measure apart) against plain EM written out."""
    rng = np.random.default_rng(3)
    x, rates = rng.poisson(5.0, (5000, 3)).astype(np.float32), rng.uniform(1, 9, (4, 3))
    weight = rng.uniform(0, 2, 5000) if weighted else None
    params = Params(weights=np.full(4, 0.25), components=Params(rates=rates))
    stats = Mixture(Poisson(), 4, STARTS["random"]).e_step(params, Chunk(x, weight))
    joint = scipy_stats.poisson.logpmf(x[:, None, :].astype(np.float64), rates).sum(axis=2) - np.log(4)
    density = np.logaddexp.reduce(joint, axis=1)
    resp = np.exp(joint - density[:, None]) * (1.0 if weight is None else weight[:, None])
    assert stats.log_likelihood == pytest.approx(density.sum() if weight is None else density @ weight, rel=1e-12)
    assert stats.components.x == pytest.approx(resp.T @ x, rel=1e-11)


def test_a_rate_of_zero() -> None:
    """0·log 0 is 0; other counts are impossible; EM keeps the zero."""
    params = Params(rates=[[0.0, 2.0], [1.0, 3.0]])
    x = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    with np.errstate(divide="ignore"):
        expected = scipy_stats.poisson.logpmf(x[:, None, :], params.rates).sum(axis=2)
    assert Poisson().log_prob(params, x) == pytest.approx(expected, rel=1e-14)
    model = Mixture(Poisson(), 2, STARTS["random"])
    whole = Params(weights=np.array([0.5, 0.5]), components=params)
    for _ in range(5):
        whole = model.m_step(model.e_step(whole, Chunk(x)), whole)
    assert whole.components.rates[0, 0] == 0.0
    assert (whole.components.rates.ravel()[1:] > 0).all()


# --- Bernoulli -------------------------------------------------------------------------------------------------------


def test_probabilities_of_zero_and_one() -> None:
    params = Params(probabilities=[[0.0, 1.0, 0.3], [1.0, 0.5, 0.0]])
    x = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    expected = scipy_stats.bernoulli.logpmf(x[:, None, :], params.probabilities).sum(axis=2)
    assert np.isinf(expected).sum() == 12
    assert Bernoulli().log_prob(params, x) == pytest.approx(expected, rel=1e-14)


def test_latent_classes_are_those_of_em_written_out() -> None:
    """From the same start, 25 iterations."""
    rng = np.random.default_rng(0)
    x = (rng.random((700, 6)) < np.where(rng.random((700, 1)) < 0.3, 0.2, 0.7)).astype(np.float64)
    w, p = np.array([0.5, 0.5]), rng.uniform(0.3, 0.7, (2, 6))
    model = Mixture(Bernoulli(), 2, STARTS["random"])
    params = Params(weights=w, components=Params(probabilities=p))
    for _ in range(25):
        joint = np.log(w) + x @ np.log(p).T + (1 - x) @ np.log1p(-p).T
        resp = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
        w, p = resp.mean(axis=0), resp.T @ x / resp.sum(axis=0)[:, None]
        params = model.m_step(model.e_step(params, Chunk(x)), params)
    assert params.weights == pytest.approx(w, rel=1e-10)
    assert params.components.probabilities == pytest.approx(p, rel=1e-10)


# --- both ------------------------------------------------------------------------------------------------------------

FAMILIES: list[tuple[Family, str]] = [(Poisson(), "rates"), (Bernoulli(), "probabilities")]


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_one_component_is_the_mean(family: Family, name: str) -> None:
    x = np.random.default_rng(1).integers(0, 2, (300, 3)).astype(np.float64)
    mix = streamem.Mixture(family, 1).fit(x)
    assert mix.params_[name] == pytest.approx(x.mean(axis=0)[None], rel=tolerance(np.float64, 300))


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_the_first_parameters_exclude_nothing(family: Family, name: str) -> None:
    """A column of zeros in a starting sample says nothing of the rest of the data."""
    x = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    first = family.maximize(family.stats(None, x, np.eye(3)), None)
    assert (first[name] > 0).all()
    assert (first[name] < 1).all()


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_an_empty_component_keeps_its_parameters_and_is_told(family: Family, name: str) -> None:
    x = np.array([[0.0, 1.0], [1.0, 1.0]])
    previous = Params(**{name: [[0.2, 0.3], [0.4, 0.5]]})
    found = family.maximize(family.stats(previous, x, np.array([[1.0, 0.0], [1.0, 0.0]])), previous)
    assert found[name][1].tolist() == [0.4, 0.5]
    assert family.degenerate(found) == {"empty": [1]}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_free_parameters(family: Family, name: str) -> None:
    x = np.random.default_rng(1).integers(0, 2, (300, 3)).astype(np.float64)
    mix = streamem.Mixture(family, 2, max_iter=5, tol=0, random_state=0, init_params="random")
    with pytest.warns(match="did not converge"):
        mix.fit(x)
    scores = mix.scores(x)
    assert scores["aic"] + 2 * scores["log_likelihood"] == pytest.approx(2 * (2 * 3 + 1))


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_families_travel(family: Family, name: str) -> None:
    assert vars(pickle.loads(pickle.dumps(family))) == vars(family)


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_files_give_the_bits_of_arrays(family: Family, name: str, tmp_path: Path) -> None:
    """Zarr and Parquet of integers, chunk by chunk."""
    x = np.random.default_rng(2).integers(0, 2, (4000, 3)).astype(np.int16)
    array = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="i2", chunks=(500, 3))
    array[:] = x
    pq.write_table(pa.table({c: x[:, i] for i, c in enumerate("abc")}), tmp_path / "x.parquet", row_group_size=500)
    fits = [
        streamem.Mixture(family, 2, random_state=0, init_params="random", chunk_bytes=500 * 12, max_iter=50).fit(data)
        for data in (x, tmp_path / "x.zarr", tmp_path / "x.parquet")
    ]
    assert len({fit.report_.n_chunks for fit in fits} | {8}) == 1
    assert all(fit.params_ == fits[0].params_ for fit in fits)


@pytest.mark.parametrize(
    ("family", "value", "words"),
    [
        (Poisson(), -1.0, "holds -1; Poisson counts are integers >= 0"),
        (Poisson(), 2.5, "holds 2.5; Poisson counts"),
        (Bernoulli(), 2.0, "holds 2; Bernoulli values are 0 and 1"),
        (Bernoulli(), 0.5, "holds 0.5; Bernoulli"),
        (Bernoulli(), -1.0, "holds -1; Bernoulli"),
    ],
)
def test_impossible_values(family: Family, value: float, words: str) -> None:
    """Named by value and column at once; by chunk, row and the column's name in a pass over data."""
    x = np.zeros((900, 2), dtype=np.float32)
    x[::2, 0] = x[::3, 1] = 1.0
    mix = streamem.Mixture(family, 2, random_state=0, chunk_bytes=2400, init_params="random", max_iter=500).fit(x)
    x[700, 1] = value
    with pytest.raises(ImpossibleValueError, match=f"column 1 {words}"):
        family.log_prob(mix.params_, x)
    table = pa.table({"a": x[:, 0], "b": x[:, 1]})
    place = r"chunk 2 \(rows 600–899\): column 1 'b' of row 700"
    for question in (mix.predict, mix.score, mix.score_samples):
        with pytest.raises(DataError, match=f"{place} {words}"):
            question(table)
    with pytest.raises(DataError, match=words):
        mix.fit(table)


@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_rows_of_zeros_and_of_nan_are_let_through(family: Family, name: str) -> None:
    """Models of sequences hand over such rows for missing steps."""
    params = Params(**{name: [[0.2, 0.3], [0.4, 0.5]]})
    family.log_prob(params, np.full((3, 2), np.nan))
    assert np.isfinite(family.log_prob(params, np.zeros((3, 2)))).all()


def test_streams_put_impossible_records_aside(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.poisson(4.0, (50, 2)).astype(np.float64) for _ in range(8)]
    batches[5][7, 1] = -3.0
    mix = streamem.Mixture(Poisson(), 2, random_state=0)
    mix.fit_stream(iter(batches), batch_rows=50, dead_letter=tmp_path / "bad.arrows")
    letters = pa.ipc.open_stream(tmp_path / "bad.arrows").read_all()
    assert letters.num_rows == 1
