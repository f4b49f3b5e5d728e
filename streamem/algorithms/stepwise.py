"""Stepwise (online) EM: the statistics are a moving average over mini-batches (Cappé & Moulines 2009)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamem.algorithms.schedule import Schedule
from streamem.algorithms.step_sizes import PowerLaw, StepSize
from streamem.core.arrays import Params
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Algorithm, ChunkRef, Limits, Model, Variant
from streamem.core.row_selection import n_units
from streamem.core.state import State
from streamem.core.stats import Stats

TRACE = 10_000
"""Batches whose predictive log-likelihood is remembered."""

CARRIED = ("watch",)
"""Parts of the memory that others keep there."""

STEPS_A_PASS, FEWEST_ROWS, MOST_ROWS = 400, 50, 100_000
OPEN_CHUNKS = 64
"""Chunks of which the mini-batches of a stretch draw together: rows of one chunk are often alike."""


@dataclass(frozen=True)
class StepwiseEM(Variant):
    """s ← (1 − γ)·s + γ·ŝ(θ), θ ← M(s), with s and ŝ per unit of weight.

    As ``fit(..., algorithm=StepwiseEM(...))`` it visits the rows `passes` times in shuffled mini-batches and ends with
    one pass over all of them. The last `averaging` of the steps are averaged (Polyak & Ruppert 1992), which is what
    makes large steps converge; too early, it remembers the start.

    Parameters
    ----------
    step : γ; large ones leave a poor start soonest, and the average makes them converge all the same
    passes : how often every row is visited
    batch_rows : rows of a mini-batch; None is 1/400 of all, between 50 and 100,000
    averaging : share of the steps, the last ones, whose statistics are averaged; 0 for none
    final_pass : whether to end with a pass that learns the exact log-likelihood; without it, `lower_bound_` is that of
        the last mini-batch before its step
    seed : of the order of rows
    least : rows below which s never falls: γ is at most (rows of the batch) / least, and there is no M-step before so
        many rows were seen, so that a few rows cannot make a covariance singular. None lets the estimator choose.

    Notes
    -----
    `State.memory` holds ``running`` (s), ``seen`` (weight so far), ``crowding`` (Σ of squared shares of the rows in s,
    whose inverse is the effective sample size), ``batches`` (steps since a pass over all data), ``gamma`` (the last
    step), after `forget` ``fresh`` (weight since), and once there is an average, ``average`` and ``averaged``. Weights
    are frequencies: 2 is the row twice.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import StepwiseEM
    >>> rows = np.concatenate([np.zeros(200), np.full(200, 9.0)])[:, None] + np.linspace(0, 1, 400)[:, None]
    >>> gm = GaussianMixture(2, random_state=0).fit(rows, algorithm=StepwiseEM(passes=3))
    >>> sorted(gm.means_.ravel().round().tolist())
    [0.0, 10.0]
    """

    step: StepSize = field(default_factory=lambda: PowerLaw(0.51))
    passes: int = 5
    batch_rows: int | None = None
    averaging: float = 0.5
    final_pass: bool = True
    seed: int = 0
    least: float | None = None
    window: int | None = None

    name = "stepwise"
    reads_in_order = False
    can_end_unconverged = True

    def __post_init__(self) -> None:
        for name, low in (("passes", 1), ("batch_rows", 1), ("seed", 0), ("window", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise ParameterError(f"{name} of StepwiseEM is {value!r}; it must be an integer >= {low}")
        if not 0 <= self.averaging <= 1:
            raise ParameterError(f"averaging of StepwiseEM is {self.averaging!r}; it must be a share from 0 to 1")

    @property
    def compares_starts(self) -> bool:
        """Whether a final pass learns the log-likelihood of all rows."""
        return self.final_pass

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> ScheduledStepwise:
        """The steps over these chunks."""
        rule = self if self.least is not None else replace(self, least=limits.least_rows)
        rows = sum(ref.rows for ref in refs)
        batch = self.batch_rows or max(FEWEST_ROWS, min(rows // STEPS_A_PASS, MOST_ROWS))
        most = max(max((ref.nbytes for ref in refs), default=0), 1)
        together = max(1, min(OPEN_CHUNKS, limits.open_bytes // most))
        sequenced = any(ref.sequences is not None for ref in refs)
        units = [n_units(ref, self.window) for ref in refs] if sequenced else None
        schedule = Schedule(
            [ref.rows for ref in refs],
            batch,
            self.passes,
            self.seed,
            together,
            units,
            self.window if sequenced else None,
        )
        return ScheduledStepwise(rule, schedule, idle=limits.max_iter == 0)

    def begin(self, model: Model, state: State, stats: Stats) -> State:
        """The first statistics, taken at the parameters of `state`."""
        weight = weight_of(stats)
        return self._moved(model, state, stats * (1.0 / weight), stats, 1.0, 1.0 / weight)

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """One step with the statistics of a batch, taken at the parameters of `state`; none if its weights are 0."""
        if float(stats.weight) == 0:
            return replace(state, iteration=state.iteration + 1, rows=state.rows + int(stats.rows))
        if state.memory is None:
            return self.begin(model, state, stats)
        running, weight = state.memory.running, weight_of(stats)
        return self.blend(model, state, stats, lambda gamma: running * (1.0 - gamma) + stats * (gamma / weight))

    def blend(self, model: Model, state: State, stats: Stats, blended: Callable[[float], Stats]) -> State:
        """One step where `blended` says from γ what the running statistics become; the state must have a memory."""
        assert state.memory is not None
        memory, weight = state.memory, weight_of(stats)
        gamma = self._gamma(state, memory, stats, weight)
        running = blended(gamma)
        crowding = (1.0 - gamma) ** 2 * float(memory.crowding) + gamma**2 / weight
        return self._moved(model, state, running, stats, gamma, crowding)

    def _gamma(self, state: State, memory: Stats, stats: Stats, weight: float) -> float:
        seen = float(memory.seen)
        if not self._enough(state.rows):  # the parameters have not moved yet
            return weight / (seen + weight)
        gamma = self.step(weight, seen)
        if not 0 < gamma <= 1:
            raise ParameterError(f"the step size is {gamma!r} after {seen:g} rows; it must be in (0, 1]")
        if "fresh" in memory:
            gamma = max(gamma, weight / (weight + float(memory.fresh)))
        return min(gamma, max(weight, float(stats.rows)) / self.least) if self.least else gamma

    def _enough(self, rows: int) -> bool:
        return rows >= (self.least or 0.0)

    def _moved(self, model: Model, state: State, running: Stats, stats: Stats, gamma: float, crowding: float) -> State:
        weight = weight_of(stats)
        rows = state.rows + int(stats.rows)
        params = model.m_step(running, state.params) if self._enough(rows) else state.params
        params = model.reanchored(params)
        memory = state.memory
        return replace(
            state,
            params=params,
            iteration=state.iteration + 1,
            trace=(*state.trace[-(TRACE - 1) :], float(stats.log_likelihood) / weight),
            log_likelihood=None,
            converged=False,
            rows=rows,
            weight=weight + (0.0 if memory is None else float(memory.seen)),
            memory=Stats(
                running=rebased(model, running, state.params, params),
                seen=weight + (0.0 if memory is None else float(memory.seen)),
                crowding=crowding,
                batches=1.0 + (0.0 if memory is None else float(memory.batches)),
                gamma=gamma,
                **self._carried(memory, weight),
            ),
        )

    def _carried(self, memory: Stats | None, weight: float) -> dict[str, Any]:
        """What each step passes on unchanged, and the weight since the last `forget`."""
        if memory is None:
            return {}
        kept = {name: memory[name] for name in CARRIED if name in memory}
        return kept if "fresh" not in memory else {**kept, "fresh": memory.fresh + weight}

    def forget(self, state: State) -> State:
        """The state from which all rows count alike until the step size asks for more: the data has changed."""
        if state.memory is None:
            return state
        return replace(state, memory=state.memory.replace(fresh=self.least or 0.0))


def rebased(model: Model, stats: Stats, old: Params, new: Params) -> Stats:
    """Statistics taken at `old` as if they had been taken at `new`, for models where that matters."""
    return model.rebase(stats, old, new)


def remember(state: State, stats: Stats) -> State:
    """A state together with the statistics of a pass over all data at its parameters, so that it can go on online."""
    weight = weight_of(stats)
    memory = Stats(running=stats * (1.0 / weight), seen=weight, crowding=1.0 / weight, batches=0.0)
    return replace(state, memory=memory)


def went_online(state: State) -> bool:
    """Whether the last steps were of single batches, whose log-likelihoods are not those of all data."""
    return state.memory is not None and float(state.memory.batches) > 0


def weight_of(stats: Stats) -> float:
    """Sum of weights of some rows; `DataError` if it is not positive, or overflows."""
    weight = float(stats.weight)
    if not weight > 0:
        raise DataError(f"the sample weights of {int(stats.rows)} rows sum to {weight}; at least one must be > 0")
    if not weight < float("inf"):
        raise DataError(
            f"the sample weights of {int(stats.rows)} rows sum to more than float64 holds (1.8e308); divide all "
            "weights by the same number, which changes no result"
        )
    return weight


@dataclass(frozen=True)
class ScheduledStepwise(Algorithm):
    """Stepwise EM over data at rest: an `Algorithm`.

    Parameters
    ----------
    rule, schedule : how to step, and over which mini-batches
    idle : make no step at all, only the final pass
    """

    rule: StepwiseEM
    schedule: Schedule
    idle: bool = False

    def start(self, params: Params) -> State:
        """The state before the first mini-batch."""
        return State(params=params, closing=self.idle)

    def resume(self, state: State) -> State:
        """Visit the rows again; what was learned counts on."""
        return replace(state, iteration=0, log_likelihood=None, allowance=0.0, closing=self.idle, converged=False)

    def reopen(self, state: State) -> State:
        """Settings are part of what identifies such a run, so there is nothing to undo."""
        return state

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The next mini-batch; after the last, all chunks once more."""
        if not state.closing:
            return self.schedule.pieces(state.iteration, refs)
        return refs if self.rule.final_pass and not state.finished else ()

    def pass_kind(self, before: State, after: State) -> str:
        """ "stepwise"; "plain" of the pass that ends the run."""
        return "plain" if before.closing else "stepwise"

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """A step; after the last, the average takes over."""
        if state.closing:
            weight = weight_of(stats)
            seen = replace(state, log_likelihood=float(stats.log_likelihood) / weight, rows=int(stats.rows))
            return remember(replace(seen, weight=weight), stats)
        moved = self._averaged(model, state, self.rule.update(model, state, stats))
        return moved if moved.iteration < self.schedule.steps else self._closed(model, moved)

    def _averaged(self, model: Model, before: State, after: State) -> State:
        late = self.schedule.steps * (1.0 - self.rule.averaging)
        if self.rule.averaging == 0 or after.iteration <= late or after.memory is None:
            return after
        running, average, averaged = after.memory.running, after.memory.running, 1.0
        if before.memory is not None and "average" in before.memory:
            averaged += float(before.memory.averaged)
            average = rebased(model, before.memory.average, before.params, after.params)
            average = average + (running - average) * (1.0 / averaged)
        return replace(after, memory=after.memory.replace(average=average, averaged=averaged))

    @staticmethod
    def _closed(model: Model, state: State) -> State:
        if state.memory is None or "average" not in state.memory:
            return replace(state, closing=True)
        params = model.m_step(state.memory.average, state.params)
        running = rebased(model, state.memory.average, state.params, params)
        kept = {name: state.memory[name] for name in ("seen", "crowding", "batches")}
        return replace(state, params=params, closing=True, memory=Stats(running=running, **kept))
