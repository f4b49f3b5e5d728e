"""The way for large data: mini-batches early, then accelerated EM over all rows until it has converged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from streamem.algorithms.accelerated import PLAIN, Accelerated, accelerates
from streamem.algorithms.anderson import AndersonEM
from streamem.algorithms.stepwise import (
    FEWEST_ROWS,
    MOST_ROWS,
    STEPS_A_PASS,
    ScheduledStepwise,
    StepwiseEM,
    rebased,
    remember,
    weight_of,
)
from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Algorithm, ChunkRef, Limits, Model, StoppingRule, Variant
from streamem.core.row_selection import n_units
from streamem.core.state import State
from streamem.core.stats import Stats

FEWEST_STEPS = 200
"""Mini-batches of a pass below which stepwise EM leaves a start no sooner than EM."""

MANY_STEPS, CHEAP_ROWS = 2000, 1000
"""Mini-batches of a pass, as long as each has rows enough to cost more than its M-step."""


@dataclass(frozen=True)
class AutoEM(Variant):
    """Exchanges on the sample, one pass of EM, two of `StepwiseEM`, then `AndersonEM`, ending with plain EM.

    Mini-batches leave a poor start within a pass, and acceleration is best near the end; its last passes are plain EM,
    until the rule is met. The pass before the mini-batches gives the statistics that they blend into: without it the
    first would forget the start. Data too few for 200 mini-batches of 50 rows, or of as many as estimate every
    component, or for 200 sequences or windows of them, have no stepwise passes.

    A start by k-means (``init_params="kmeans"``, `n_init` = 1, three components or more of independent rows) is first
    taken on on the sample, as ``init_params="split_merge"`` does: components are split and merged, which costs no pass.

    Worth it where passes are dear: many rows, or data that are read anew for each pass. A mini-batch costs about two
    milliseconds beside its rows, so that over rows in memory, few features and few components, "anderson" takes less
    time. From one start, runs may end at another maximum than "batch", a higher or a lower one.

    Parameters
    ----------
    stepwise : the passes of mini-batches
    stopping : when it has converged, judged on plain EM steps only; None lets the estimator choose
    max_iter : most passes over all rows, the stepwise ones included, proposals that were turned down excluded; None
        lets the estimator choose
    exchanges : False leaves a start by k-means as it is

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import AutoEM
    >>> rows = np.concatenate([np.zeros(60), np.full(60, 9.0)])[:, None] + np.linspace(0, 1, 120)[:, None]
    >>> gm = GaussianMixture(2, random_state=0)
    >>> sorted(gm.fit(rows, algorithm=AutoEM()).means_.ravel().round(1).tolist())
    [0.2, 9.8]
    """

    stepwise: StepwiseEM = field(default_factory=lambda: StepwiseEM(passes=2, final_pass=False))
    stopping: StoppingRule | None = None
    max_iter: int | None = None
    exchanges: bool = True

    name = "auto"
    reads_in_order = False

    def __post_init__(self) -> None:
        if not isinstance(self.stepwise, StepwiseEM):
            raise ParameterError(f"stepwise of AutoEM is {self.stepwise!r}; it must be a StepwiseEM")

    @property
    def key(self) -> str:
        """The stepwise passes; when the run ends is no part of it."""
        return f"auto {self.stepwise.key}"

    def with_stopping(self, rule: StoppingRule) -> AutoEM:
        """This algorithm with a stopping rule, unless the user gave one."""
        return replace(self, stopping=rule) if self.stopping is None else self

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> PlannedAuto:
        """The mini-batches over these chunks, if they are many, and what follows them."""
        if self.stopping is None:
            raise ParameterError("AutoEM has no stopping rule: pass AutoEM(stopping=Aitken(1e-6))")
        most = limits.max_iter if self.max_iter is None else self.max_iter
        used = 1 + self.stepwise.passes
        if most < used or not self._steps_pay(refs, limits):
            return PlannedAuto(None, AndersonEM(self.stopping, most))
        first = self._steps(refs, limits).planned(refs, limits)
        return PlannedAuto(first, AndersonEM(self.stopping, most - used))

    def open_bytes(self, refs: Sequence[ChunkRef], limits: Limits) -> int:
        """Bytes of whichever phase keeps more."""
        planned = self.planned(refs, limits)
        later = planned.later.open_bytes(refs, limits)
        return later if planned.first is None else max(later, super().open_bytes(refs, limits))

    def _steps(self, refs: Sequence[ChunkRef], limits: Limits) -> StepwiseEM:
        """Many mini-batches, each of rows enough to estimate every component."""
        if self.stepwise.batch_rows is not None:
            return self.stepwise
        rows = sum(ref.rows for ref in refs)
        own = min(rows // STEPS_A_PASS, max(CHEAP_ROWS, rows // MANY_STEPS), MOST_ROWS)
        return replace(self.stepwise, batch_rows=max(FEWEST_ROWS, limits.least_rows, own))

    def _steps_pay(self, refs: Sequence[ChunkRef], limits: Limits) -> bool:
        rows = sum(ref.rows for ref in refs)
        if rows < FEWEST_STEPS * max(FEWEST_ROWS, limits.least_rows):
            return False
        return sum(n_units(ref, self.stepwise.window) for ref in refs) >= FEWEST_STEPS


@dataclass(frozen=True)
class PlannedAuto(Algorithm):
    """`AutoEM` over given chunks: an `Algorithm`.

    Parameters
    ----------
    first : mini-batches, or None for none
    later : what goes on from where they end
    """

    first: ScheduledStepwise | None
    later: Accelerated

    def start(self, params: Params) -> State:
        """The state before the first mini-batch, or before the first pass."""
        return self.later.start(params) if self.first is None else self.first.start(params)

    def resume(self, state: State) -> State:
        """Go on from an ended run, without mini-batches, which might leave an optimum."""
        return self.later.resume(state)

    def reopen(self, state: State) -> State:
        """Undo the ending of a run that stopped at a smaller `max_iter` or a larger tolerance."""
        return state if self._begins(state) else self.later.reopen(state)

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """All chunks once; the next mini-batch; then all chunks, until the final log-likelihood is known."""
        if self.first is not None and self._begins(state):
            return refs if state.memory is None else self.first.window(state, refs)
        return self.later.window(state, refs)

    def withdrawn(self, model: Model, state: State) -> State | None:
        """The plain EM step in place of a proposal."""
        return None if self._begins(state) else self.later.withdrawn(model, state)

    def pass_kind(self, before: State, after: State) -> str:
        """What the phase says of it."""
        if self.first is not None and self._begins(before):
            return PLAIN if before.memory is None else self.first.pass_kind(before, after)
        return self.later.pass_kind(before, after)

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """A step of the phase; after the last mini-batch the average goes over to the next phase."""
        if self.first is None or not self._begins(state):
            return self.later.update(model, state, stats)
        if state.memory is None:
            return _opened(model, state, stats)
        after = self.first.update(model, state, stats)
        return replace(self.later.start(after.params), trace=after.trace) if after.closing else after

    def _begins(self, state: State) -> bool:
        """Whether mini-batches go on."""
        return self.first is not None and not state.closing and not accelerates(state)


def _opened(model: Model, state: State, stats: Stats) -> State:
    """One EM step, whose statistics mini-batches go on from."""
    weight = weight_of(stats)
    seen = remember(replace(state, rows=int(stats.rows), weight=weight), stats)
    assert seen.memory is not None
    params = model.m_step(stats, state.params)
    memory = seen.memory.replace(running=rebased(model, seen.memory.running, state.params, params))
    trace = (*state.trace, float(stats.log_likelihood) / weight)
    return replace(seen, params=params, trace=trace, memory=memory)
