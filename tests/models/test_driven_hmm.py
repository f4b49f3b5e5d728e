"""Hidden Markov models whose transitions depend on covariates: enumeration, cuts, ascent, a published number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from helpers.chain_cases import PieceRef, cut
from streamem import Params
from streamem.conformance import ModelSuite
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, DegenerateDataError, NumericalError, ParameterError
from streamem.core.missing import Missing
from streamem.core.ports import ChunkDone, Executor
from streamem.core.sequences import Sequences
from streamem.core.small_work import Running
from streamem.executors import ThreadsExecutor
from streamem.families import Gaussian
from streamem.initialization import STARTS
from streamem.models import DrivenHMM, DrivenSemiMarkov
from streamem.models import driven_pass as passes
from streamem.models.boundaries import boundaries
from streamem.models.durations import Durations
from streamem.models.logit_moves import box_of_covariates, design, hidden, log_moves, maximized, shown
from streamem.running.fit import EStep
from streamem.running.row_tasks import Apply

Array = NDArray[Any]
K, P = 3, 2
COUNTED = ("log_likelihood", "startprob", "transitions", "visits", "curvature", "target", "components")


def data(lengths: Sequence[int], seed: int, missing: float = 0.1, padded: bool = False) -> Chunk:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    u = rng.normal(size=(n, P)) * [1.0, 30.0] + [0.0, 2000.0]
    x = rng.normal(size=(n, 2)) + 2.0 * np.repeat(rng.integers(K, size=n // 4 + 1), 4)[:n, None]
    x[rng.uniform(size=n) < missing] = np.nan
    weight = np.repeat(rng.uniform(0.5, 2.0, len(lengths)), lengths)
    return Chunk(x, weight, Sequences(np.cumsum([0, *lengths]), padded=padded), u)


def model_of(chunk: Chunk, kind: type[DrivenHMM] = DrivenHMM, k: int = K) -> DrivenHMM:
    assert chunk.covariates is not None
    p = chunk.covariates.shape[1]
    return kind(Gaussian("diag", 1e-3), k, STARTS["kmeans"], p, box=box_of_covariates(chunk))


def begun(model: DrivenHMM, chunk: Chunk, seed: int = 0) -> Params:
    """Parameters whose transitions differ much from step to step."""
    params = model.init(chunk, np.random.RandomState(seed))
    logits = np.random.default_rng(seed).normal(size=params.logits.shape) * 2
    return params.replace(logits=logits - logits.mean(axis=1, keepdims=True), startprob=np.array([0.2, 0.5, 0.3]))


class OneAfterAnother(DrivenHMM):
    """As with many states."""

    def scans(self, params: Params, question: str) -> bool:
        return False


class TestDrivenHMM(ModelSuite):
    """The laws of a model."""

    square = frozenset({"logits"})
    shared = frozenset({"components.center", "components.scale", "box"})
    LENGTHS = (60, 1, 90, 3, 146)

    def make_model(self) -> DrivenHMM:
        return DrivenHMM(Gaussian("diag", 1e-6), 3, STARTS["k-means++"], P, box=np.array([[-4.0, 1.0], [4.0, 9.0]]))

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        states = np.repeat(rng.integers(3, size=n // 5 + 1), 5)[:n]
        x = 50.0 + rng.normal(size=(n, 2)) + 2.0 * states[:, None]
        x[rng.random(n) < 0.1] = np.nan
        u = np.column_stack([rng.normal(size=n), rng.uniform(1, 9, n)])
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])), u)

    def make_params(self, model: Any, chunk: Chunk) -> Params:
        return begun(model, chunk)

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        ends = [(0, 0), *pairwise(chunk.sequences.offsets.tolist()), (chunk.rows, chunk.rows)]  # type: ignore[union-attr]
        return [part(chunk, a, b) for a, b in ends]

    def repeated(self, chunk: Chunk) -> Chunk:
        offsets = np.cumsum([0, *self.LENGTHS, *self.LENGTHS])
        return Chunk(np.tile(chunk.x, (2, 1)), None, Sequences(offsets), np.tile(chunk.covariates, (2, 1)))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)


class TestDrivenSemiMarkov(TestDrivenHMM):
    """The laws of states that last."""

    def make_model(self) -> DrivenHMM:
        box = np.array([[-4.0, 1.0], [4.0, 9.0]])
        starts = STARTS["k-means++"]
        return DrivenSemiMarkov(Gaussian("diag", 1e-6), 3, starts, P, Durations("negative-binomial", 6), box=box)


def part(chunk: Chunk, a: int, b: int) -> Chunk:
    weight = None if chunk.weight is None else chunk.weight[a:b]
    return Chunk(chunk.x[a:b], weight, None, chunk.beside(slice(a, b)))


# --- enumeration ------------------------------------------------------------------------------------------------------


def moves_of(params: Params, chunk: Chunk) -> Array:
    """(n, K, K) transition matrices by SciPy, of the public numbers in units of the data."""
    own = shown(params.logits, params.box)
    return np.exp(log_softmax(own.intercept + np.einsum("ijp,tp->tij", own.coef, chunk.covariates), axis=2))


@pytest.mark.parametrize("small", [True, False])
def test_all_paths_one_by_one(small: bool) -> None:
    """γ, expected transitions, ℓ and the best path of seven steps: sums over 3⁷ paths; the step that is left drives."""
    chunk = replace(data([7], seed=2, missing=0.2), weight=None)
    model = model_of(chunk)
    params = begun(model, chunk)
    moves, density = moves_of(params, chunk), np.ones((7, K))
    seen = ~np.isnan(chunk.x[:, 0])
    density[seen] = np.exp(model.family.log_prob(params.components, chunk.x[seen]))
    gamma, expected, total, best = np.zeros((7, K)), np.zeros((7, K, K)), 0.0, (0.0, ())
    for states in product(range(K), repeat=7):
        p = params.startprob[states[0]] * density[0, states[0]]
        for t in range(1, 7):
            p *= moves[t - 1, states[t - 1], states[t]] * density[t, states[t]]
        total += p
        gamma[np.arange(7), states] += p
        expected[np.arange(6), states[:-1], states[1:]] += p
        best = max(best, (p, states))
    with Running(small):
        stats = model.e_step(params, chunk)
        assert model.posteriors(params, chunk) == pytest.approx(gamma / total, abs=1e-13)
        assert model.path(params, chunk).tolist() == list(best[1])
    assert float(stats.log_likelihood) == pytest.approx(np.log(total), rel=1e-13)
    assert stats.transitions == pytest.approx(expected.sum(axis=0) / total, abs=1e-13)
    assert stats.startprob == pytest.approx(gamma[0] / total, abs=1e-13)
    # The expansion: gradient and second derivatives of Σ ξ log A at these logits, by differences.
    xi, rows = expected / total, design(chunk.covariates, params.box)  # type: ignore[arg-type]

    def objective(logits: Array) -> float:
        return float((xi * log_moves(logits, rows)).sum())

    logits, h = params.logits, 1e-3
    slope = stats.target - np.einsum("iab,ib->ia", stats.curvature, logits.reshape(K, -1))
    for at in ((0, 1, 0), (2, 0, 1), (1, 2, 2)):
        nudge = np.zeros_like(logits)
        nudge[at] = h
        up, down = objective(logits + nudge), objective(logits - nudge)
        number = at[1] * (1 + P) + at[2]
        assert slope[at[0], number] == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7)
        second = (up - 2 * objective(logits) + down) / h**2
        assert -stats.curvature[at[0], number, number] == pytest.approx(second, rel=1e-5, abs=1e-8)


# --- cut sequences ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadsExecutor]:
    with ThreadsExecutor(2) as executor:
        yield executor


def ignore(done: ChunkDone) -> None:
    pass


def applied(
    describe: Any, params: Params, refs: Sequence[PieceRef], executor: Executor, question: str, dtype: Any
) -> Array:
    messages = boundaries(describe.__self__, params, refs, executor, None, question)
    task = Apply(describe, params, None, np.dtype(dtype), 8, Missing.STEPS, messages)
    return np.concatenate(list(executor.map(task, refs, ignore)))


def require_like_uncut(model: DrivenHMM, params: Params, chunk: Chunk, cuts: Sequence[int], executor: Executor) -> None:
    refs, rtol = cut(chunk, cuts), tolerance(np.float64, chunk.rows, 100)
    messages = boundaries(model, params, refs, executor, None)
    found, expected = executor.reduce(EStep(model, params, None, messages), refs, ignore), model.e_step(params, chunk)
    for name in COUNTED:
        assert_close(found[name], expected[name], rtol, f"{name}, cut at {list(cuts)}")
    posteriors = applied(model.posteriors, params, refs, executor, "posterior", float)
    np.testing.assert_allclose(posteriors, model.posteriors(params, chunk), rtol=rtol, atol=rtol)
    path = applied(model.path, params, refs, executor, "path", np.int64)
    np.testing.assert_array_equal(path, model.path(params, chunk))


@pytest.mark.parametrize("kind", [DrivenHMM, OneAfterAnother])
def test_every_cut_of_one_sequence(kind: type[DrivenHMM], threads: ThreadsExecutor) -> None:
    chunk = data([12], seed=1)
    model = model_of(chunk, kind)
    params = begun(model, chunk)
    for at in range(1, 12):
        require_like_uncut(model, params, chunk, [at], threads)


@pytest.mark.parametrize("kind", [DrivenHMM, OneAfterAnother])
@pytest.mark.parametrize("small", [True, False])
def test_many_cuts(kind: type[DrivenHMM], small: bool, threads: ThreadsExecutor, monkeypatch: Any) -> None:
    """Pieces of one row, in the middle, that end a sequence and begin another; segments of a few rows."""
    monkeypatch.setenv("STREAMEM_SMALL_WORK", "numpy" if small else "compiled")
    monkeypatch.setattr(passes, "SEGMENT_NUMBERS", 4 * K**2)
    chunk = data([40, 1, 17, 25], seed=3, missing=0.3)
    model = model_of(chunk, kind)
    params = begun(model, chunk)
    for cuts in ([9, 10, 11, 30, 41, 50, 60], [40, 41, 58], [5, 39, 43, 82]):
        require_like_uncut(model, params, chunk, cuts, threads)


def test_segments_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = data([30, 2, 31], seed=4)
    model = model_of(chunk)
    params = begun(model, chunk)
    whole, path = model.e_step(params, chunk), model.path(params, chunk)
    monkeypatch.setattr(passes, "SEGMENT_NUMBERS", 3 * K**2)
    parts = model.e_step(params, chunk)
    for name in COUNTED:
        assert_close(parts[name], whole[name], tolerance(np.float64, chunk.rows, 100), name)
    np.testing.assert_array_equal(model.path(params, chunk), path)


def test_padding_needs_no_covariates_and_steps_do() -> None:
    """Rows of NaN at the end of a padded sequence are no steps; within it they are, and need covariates."""
    chunk = data([8, 6], seed=5, missing=0.0, padded=True)
    assert chunk.covariates is not None
    model = model_of(chunk)
    params = begun(model, chunk)
    chunk.x[5:8] = np.nan
    chunk.covariates[5:8] = np.nan
    shorter = Chunk(
        np.delete(chunk.x, [5, 6, 7], 0),
        np.delete(chunk.weight, [5, 6, 7]),  # type: ignore[arg-type]
        Sequences(np.array([0, 5, 11])),
        np.delete(chunk.covariates, [5, 6, 7], 0),
    )
    found, expected = model.e_step(params, chunk), model.e_step(params, shorter)
    for name in (*COUNTED, "weight"):
        assert_close(found[name], expected[name], tolerance(np.float64, chunk.rows, 100), name)
    assert model.path(params, chunk)[5:8].tolist() == [-1, -1, -1]
    chunk.covariates[2] = np.nan
    with pytest.raises(DataError, match=r"row 2 of the chunk has covariates that are not finite"):
        model.e_step(params, chunk)


# --- the M-step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_step_from_anywhere_raises_the_expected_log_likelihood(seed: int) -> None:
    """From logits of ±10, where Newton's full step often leads far down, and to the maximum in the end."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([np.ones(200), rng.uniform(-1, 1, (200, 2))])
    truth = rng.normal(size=(K, K, 3)) * 2
    xi = np.exp(log_moves(truth, rows)) * rng.dirichlet(np.ones(K), 200)[:, :, None]
    logits = rng.normal(size=(K, K, 3)) * 4
    logits -= logits.mean(axis=1, keepdims=True)
    before = -np.inf
    for _ in range(100):
        moves = log_moves(logits, rows)
        now = float((xi * moves).sum())
        assert now >= before - 1e-12 * abs(now)
        before, sums = now, passes.MoveSums(logits)
        sums.add(xi, moves, rows)
        logits, kept = maximized(sums.stats(), logits)
        assert not kept.any()
    np.testing.assert_allclose(logits, truth - truth.mean(axis=1, keepdims=True), atol=1e-6)


def test_units_of_covariates_are_no_matter() -> None:
    """Years of about 2000, and the same in other units: equal likelihoods, coefficients in the units."""
    chunk = replace(data([120, 80], seed=6), weight=None)
    scaled = replace(chunk, covariates=chunk.covariates * [1e-3, 1e5] + [1e3, 0.0])  # type: ignore[operator]
    found = []
    for one in (chunk, scaled):
        model = model_of(one)
        params = model.init(one, np.random.RandomState(0))
        for _ in range(10):
            params = model.m_step(model.e_step(params, one), params)
        found.append((float(model.log_likelihood(params, one).log_likelihood), shown(params.logits, params.box)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    np.testing.assert_allclose(found[0][1].coef, found[1][1].coef * [1e-3, 1e5], rtol=1e-6, atol=1e-9)


def test_public_numbers_and_logits_are_inverses() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(K, K, 3))
    logits -= logits.mean(axis=1, keepdims=True)
    box = np.array([[-3.0, 1990.0], [5.0, 2020.0]])
    own = shown(logits, box)
    assert not own.intercept[:, 0].any()
    np.testing.assert_allclose(hidden(own.intercept, own.coef, box), logits, atol=1e-12)


def test_a_state_that_is_never_left_keeps_its_transitions() -> None:
    chunk = replace(data([1, 1, 1], seed=7, missing=0.0), weight=None)
    model = model_of(chunk)
    params = begun(model, chunk)
    new = model.m_step(model.e_step(params, chunk), params)
    np.testing.assert_array_equal(new.logits, params.logits)
    assert model.degenerate(new)["never left"] == [0, 1, 2]


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_constant_covariate_is_named() -> None:
    chunk = data([30], seed=8)
    chunk.covariates[:, 1] = 7.0  # type: ignore[index]
    with pytest.raises(DegenerateDataError, match="covariate 1 of the transitions is 7 in every step"):
        model_of(chunk).init(chunk, np.random.RandomState(0))


def test_chunks_without_covariates_are_refused() -> None:
    chunk = data([30], seed=9)
    model = model_of(chunk)
    params = begun(model, chunk)
    with pytest.raises(ParameterError, match="depend on 2 covariates, and the chunk has 0"):
        model.e_step(params, replace(chunk, covariates=None))


def test_an_impossible_sequence_is_named() -> None:
    chunk = data([10, 10], seed=10, missing=0.0)
    model = model_of(chunk)
    params = begun(model, chunk)
    chunk.x[14] = 1e200
    for ask in (model.e_step, model.path):
        with pytest.raises(NumericalError, match=r"sequence 1 of the chunk \(its rows 10–19\)"):
            ask(params, chunk)


# --- published --------------------------------------------------------------------------------------------------------

DATA = Path(__file__).parents[1] / "data"


def direct(x: Array, u: Array, start: Array) -> tuple[float, Array]:
    """SciPy's maximum of the log-likelihood of two states, by a loop over steps."""

    def minus(theta: Array) -> float:
        begin, (mu, sd), (a, b) = theta[0], (theta[1:3], np.exp(theta[3:5])), (theta[5:7], theta[7:9])
        density = np.exp(-0.5 * ((x[:, None] - mu) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
        second = expit(a + u[:, None] * b).tolist()
        low, total = 1.0 - float(expit(begin)), 0.0  # the probability of state 0, given what came before
        for (one, other), (from_0, from_1) in zip(density.tolist(), second, strict=True):
            gain = low * one + (1 - low) * other
            total += log(gain)
            low = low * one / gain
            low = low * (1 - from_0) + (1 - low) * (1 - from_1)
        return -total

    found = minimize(minus, start, method="BFGS", options={"gtol": 1e-7})
    return -float(found.fun), found.x


def test_speed_driven_by_the_pay_for_accuracy() -> None:
    """R's depmixS4 prints −44.2: rt alone, all 439 trials as one series, covariate Pacc of the trial that is left."""
    x = pd.read_csv(DATA / "speed.csv")["rt"].to_numpy()
    u = pd.read_csv(DATA / "speed_pacc.csv")["Pacc"].to_numpy()
    chunk = Chunk(x[:, None], None, Sequences(np.array([0, len(x)])), u[:, None])
    model = DrivenHMM(Gaussian("diag", 0.0), 2, STARTS["kmeans"], 1, box=box_of_covariates(chunk))
    params = first = model.init(chunk, np.random.RandomState(0))
    for _ in range(60):
        params = model.m_step(model.e_step(params, chunk), params)
    reached = float(model.log_likelihood(params, chunk).log_likelihood)
    assert f"{reached:.1f}" == "-44.2"
    means = Gaussian("diag").means(first.components).ravel()
    spread = 0.5 * np.log(Gaussian("diag").covariances(first.components).ravel())
    best, theta = direct(x, u, np.array([0.0, *means, *spread, 0.0, 0.0, 0.0, 0.0]))
    assert reached == pytest.approx(best, abs=1e-6)
    own = shown(params.logits, params.box)
    assert own.intercept[:, 1] == pytest.approx(theta[5:7], rel=2e-3)
    assert own.coef[:, 1, 0] == pytest.approx(theta[7:9], rel=2e-3)
