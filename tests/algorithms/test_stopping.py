"""Stopping rules on sequences whose limit is known, and the watch over EM's guarantee."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.algorithms import Aitken, BatchEM, Change, StoppingRule
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, MonotonicityError
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.families import Gaussian
from streamem.initialization import STARTS
from streamem.models import Mixture
from streamem.running.loop import Lane, Race
from streamem.sources import ReadOptions, open_source

Array = NDArray[Any]


def geometric(limit: float, gap: float, ratio: float, length: int) -> list[float]:
    """A trace that approaches its limit by a constant factor, as EM does near a maximum."""
    return [limit - gap * ratio**i for i in range(length)]


def stops_at(rule: StoppingRule, trace: list[float]) -> int:
    """Length of the trace at which the rule is first met."""
    return next((i for i in range(len(trace) + 1) if rule.met(trace[:i])), -1)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_aitken_stops_when_the_true_gap_is_below_tol(ratio: float, tol: float) -> None:
    """On a geometric trace the prediction is exact: the first two gaps below tol in a row, at any speed."""
    trace = geometric(-3.0, 1.0, ratio, 40_000)
    stop = stops_at(Aitken(tol), trace)
    gaps = [-3.0 - value for value in trace]
    assert stop >= 4
    # Both of the last two values are within tol of the limit, the one before them was not.
    assert gaps[stop - 2] < tol * 1.01
    assert stop == 4 or gaps[stop - 3] > tol * 0.99


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_change_stops_at_the_first_small_step(ratio: float, tol: float) -> None:
    """scikit-learn's rule, which takes a slow run for a converged one."""
    trace = geometric(-3.0, 1.0, ratio, 5000)
    stop = stops_at(Change(tol), trace)
    steps = np.diff(trace)
    assert steps[stop - 2] < tol
    assert (steps[: stop - 2] >= tol).all()


def test_change_is_misled_by_slow_convergence_and_aitken_is_not() -> None:
    """A thousandth of the way a step: the gap is a thousand steps."""
    trace = geometric(0.0, 1.0, 0.999, 40_000)
    gap = [-value for value in trace]
    assert gap[stops_at(Change(1e-4), trace) - 1] > 0.09
    assert gap[stops_at(Aitken(1e-4), trace) - 1] < 1e-4


@pytest.mark.parametrize(
    ("trace", "met"),
    [
        ([], False),
        ([-1.0], False),
        ([-1.0, -1.0, -1.0], False),
        ([-1.0, -1.0, -1.0, -1.0], True),
        (geometric(0.0, 1e-9, 0.5, 3), False),
        (geometric(0.0, 1e-9, 0.5, 4), True),
        ([-4.0, -3.0, -2.0, -1.0], False),
        ([-1.0, -1.0 + 1e-9, -1.0 + 3e-9, -1.0 + 7e-9], False),
        ([-1.0, -0.9, -0.9 - 4e-6, -0.9 - 6e-6], False),
        ([-1.0, -0.9, -0.9 - 4e-6, -0.9 - 4.1e-6], True),
        ([-1.0, -1.0 + 4e-9, -1.0 + 2e-9, -1.0 + 1e-9], True),
        ([-1.0, -1.0 + 1e-15, -1.0, -1.0 + 1e-15], True),
    ],
)
def test_aitken_on_single_traces(trace: list[float], met: bool) -> None:
    """Too short, constant, linear, accelerating, falling with more and less than tol to go; last, only rounding."""
    assert Aitken(1e-6).met(trace) is met


def test_aitken_is_not_misled_by_a_slow_fall() -> None:
    """Under a penalty the log-likelihood may approach its limit from above."""
    trace = geometric(-1.0, -1e-2, 0.999, 10_000)
    stop = stops_at(Aitken(1e-4), trace)
    assert trace[stop - 1] + 1.0 < 1e-4
    assert trace[stop - 3] + 1.0 > 0.99e-4


@pytest.mark.parametrize("rule", [Change(0.0), Aitken(0.0)])
def test_a_tolerance_of_zero_is_never_met(rule: StoppingRule) -> None:
    """Not even when nothing moves any more: exactly max_iter iterations are done."""
    assert stops_at(rule, geometric(-3.0, 1.0, 0.5, 80)) == -1


# --- batch EM --------------------------------------------------------------------------------------------------------


class Shifted(Gaussian):
    """A family whose M-step is off: the planted fault."""

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Means a little too large."""
        right = super().maximize(stats, previous)
        return self.with_means(right, self.means(right) + 0.05)


def rows(seed: int = 0, n: int = 400) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 3.0 * rng.integers(0, 2, (n, 1))


def fitted(family: Gaussian, x: Array, max_iter: int = 50, start: Params | None = None) -> State:
    """Batch EM without a stopping rule, through chunks and threads."""
    model, source = mixture(family), open_source(x, options=ReadOptions(chunk_bytes=1024))
    algorithm = BatchEM(Aitken(0.0), max_iter)
    state = algorithm.start(model.init(Chunk(x), np.random.RandomState(0)) if start is None else start)
    return run(model, source, algorithm, state)


def run(model: Mixture, source: Any, algorithm: BatchEM, state: State) -> State:
    """One run from a state to its end."""
    lane = Lane(model, algorithm, state)
    with ThreadsExecutor(2) as executor:
        Race(source, source.chunks(), executor, source.fingerprint()).run([lane])
    return lane.state


def mixture(family: Gaussian) -> Mixture:
    return Mixture(family, 2, STARTS["random_from_data"])


def test_a_family_that_does_not_maximize_is_an_error() -> None:
    """Never "converged": the message says by how much, and what to run."""
    with pytest.raises(MonotonicityError, match=r"iteration \d+ lowered .* streamem\.conformance") as caught:
        fitted(Shifted(reg_covar=1e-6), rows(), start=fitted(Gaussian(reg_covar=1e-6), rows()).params)
    assert isinstance(caught.value, ArithmeticError)


def test_the_right_family_passes_on_the_same_data() -> None:
    """The watch is not a nuisance."""
    state = fitted(Gaussian(reg_covar=1e-6), rows(), start=fitted(Gaussian(reg_covar=1e-6), rows()).params)
    assert state.finished
    assert len(state.trace) == 50
    assert (np.diff(state.trace) > -1e-10).all()


def regularized_fall() -> tuple[State, int]:
    """A large reg_covar from a start near the unregularized maximum: the raw log-likelihood falls."""
    sharp = fitted(Gaussian("diag", 1e-9), rows(), max_iter=100)
    final = fitted(Gaussian("diag", 2.0), rows(), max_iter=10, start=sharp.params)
    falls = np.flatnonzero(np.diff([*final.trace, final.log_likelihood or np.nan]) < -1e-6)
    return final, len(falls)


def test_regularization_may_lower_the_raw_log_likelihood() -> None:
    """EM then raises the log-likelihood minus a penalty: a fall within the allowance is no error."""
    final, falls = regularized_fall()
    assert falls > 0
    assert final.finished


def test_without_the_allowance_that_would_be_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowance is needed, not decoration."""
    monkeypatch.setattr(Gaussian, "penalty", lambda self, params, stats: 0.0)
    with pytest.raises(MonotonicityError):
        regularized_fall()


def test_a_fall_beyond_the_allowance_is_an_error() -> None:
    """The allowance is a bound, not an amnesty."""
    with pytest.raises(MonotonicityError):
        fitted(Shifted("diag", 1e-3), rows(), start=fitted(Gaussian("diag", 1e-3), rows()).params)


class Still:
    """A model that learns nothing."""

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        return 0.0

    def penalty(self, params: Params, stats: Stats) -> float:
        return 0.0

    def m_step(self, stats: Stats, previous: Params) -> Params:
        return previous


@pytest.mark.parametrize(("fall", "refused"), [(1.5e-3, False), (2.5e-3, True)])
@pytest.mark.parametrize("roundings", [(2e-3, 1e-9), (1e-9, 2e-3), (1e-3, 1e-3)])
def test_two_log_likelihoods_may_differ_by_what_both_were_rounded(
    roundings: tuple[float, float], fall: float, refused: bool
) -> None:
    """The pass before may have run in float32 and the next in float64, or the other way round."""
    algorithm, state = BatchEM(Change(0.0), 5), State(Params())
    first, second = (
        Stats(rows=10, weight=10.0, log_likelihood=10.0 * value, rounding=10.0 * rounding)
        for value, rounding in zip((-80.0, -80.0 - fall), roundings, strict=True)
    )
    state = algorithm.update(Still(), state, first)  # type: ignore[arg-type]
    with pytest.raises(MonotonicityError) if refused else nullcontext():
        algorithm.update(Still(), state, second)  # type: ignore[arg-type]


def test_the_final_log_likelihood_belongs_to_the_final_parameters() -> None:
    """One pass more than M-steps; off by one here is the classic bug."""
    x = rows()
    for max_iter in (0, 1, 7):
        state = fitted(Gaussian(), x, max_iter)
        assert (state.iteration, len(state.trace)) == (max_iter, max_iter)
        density = mixture(Gaussian()).log_density(state.params, Chunk(x))
        assert state.log_likelihood == pytest.approx(density.mean(), rel=1e-13)
        assert (state.rows, state.weight) == (400, 400.0)


def test_weights_that_sum_to_zero_are_refused() -> None:
    """No division by zero further on."""
    algorithm = BatchEM(Change(1e-3), 5)
    with pytest.raises(DataError, match="at least one must be > 0"):
        algorithm.update(Any, State(Params()), Stats(rows=3, weight=0.0, log_likelihood=0.0, rounding=0.0))  # type: ignore[arg-type]


def state_of(**changes: Any) -> State:
    return State(Params(), **changes)


@pytest.mark.parametrize(
    ("state", "opened"),
    [
        (state_of(iteration=3, closing=True, log_likelihood=-1.0), True),
        (state_of(iteration=3, closing=True), True),
        (state_of(iteration=3, closing=True, log_likelihood=-1.0, converged=True, trace=(-2.0, -1.5)), True),
        (state_of(iteration=3, closing=True, log_likelihood=-1.0, converged=True, trace=(-2.0, -1.99)), False),
        (state_of(iteration=5, closing=True, log_likelihood=-1.0), False),
        (state_of(iteration=3), False),
    ],
)
def test_reopening_undoes_an_ending_that_present_settings_would_not_make(state: State, opened: bool) -> None:
    """A smaller max_iter or a larger tolerance; a converged run stays ended, one in progress stays as it is."""
    after = BatchEM(Change(0.1), 5).reopen(state)
    assert (after != state) is opened
    if opened:
        assert not after.closing
        assert not after.converged
        assert after.log_likelihood is None


def test_ten_iterations_are_five_and_five() -> None:
    """Reopening goes on with the same bits."""
    x, model = rows(), mixture(Gaussian())
    source = open_source(x, options=ReadOptions(chunk_bytes=1024))
    start = model.init(Chunk(x), np.random.RandomState(0))
    half = State.from_arrays(fitted(Gaussian(), x, 5, start).to_arrays())
    whole = fitted(Gaussian(), x, 10, start)
    algorithm = BatchEM(Aitken(0.0), 10)
    resumed = run(model, source, algorithm, algorithm.reopen(half))
    assert resumed.params == whole.params
    assert resumed.trace == whole.trace
    assert resumed.log_likelihood == whole.log_likelihood
