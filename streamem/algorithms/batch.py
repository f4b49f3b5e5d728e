"""Batch EM: one M-step after each pass over all data (Dempster, Laird & Rubin 1977)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamem.algorithms.stepwise import remember, weight_of
from streamem.core.arrays import Params
from streamem.core.ascent import permitted_fall
from streamem.core.errors import MonotonicityError
from streamem.core.ports import Algorithm, ChunkRef, Model, StoppingRule
from streamem.core.state import State
from streamem.core.stats import Stats

MONOTONE_TOLERANCE = 1e-10


@dataclass(frozen=True)
class BatchEM(Algorithm):
    """Plain EM with its guarantee checked: the log-likelihood never falls by more than rounding.

    After the last M-step one more pass learns the exact log-likelihood of the parameters that are returned.

    Parameters
    ----------
    stopping : when it has converged
    max_iter : most M-steps of one call

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import BatchEM, Change
    >>> rows = np.linspace(0.0, 1.0, 50)[:, None]
    >>> GaussianMixture(1).fit(rows, algorithm=BatchEM(Change(1e-6), 20)).converged_
    True
    """

    stopping: StoppingRule
    max_iter: int

    name = "batch"
    key = "batch"
    sees_all_rows = True

    def start(self, params: Params) -> State:
        """The state before the first pass."""
        return State(params=params, closing=self.max_iter == 0)

    def resume(self, state: State) -> State:
        """Go on from an ended run: the trace is kept, so that the stopping rule remembers it."""
        return replace(
            state,
            iteration=0,
            log_likelihood=None,
            memory=None,
            allowance=0.0,
            closing=self.max_iter == 0,
            converged=False,
        )

    def reopen(self, state: State) -> State:
        """Undo the ending of a run that stopped at a smaller `max_iter` or a larger tolerance."""
        if not state.closing or state.iteration >= self.max_iter or self.stopping.met(state.trace):
            return state
        return replace(state, closing=False, converged=False, log_likelihood=None, memory=None)

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """All chunks, until the final log-likelihood is known."""
        return () if state.finished else refs

    def pass_kind(self, before: State, after: State) -> str:
        """Always "plain"."""
        return "plain"

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """Check monotonicity, then one M-step; or, when closing, only note the log-likelihood."""
        weight = weight_of(stats)
        log_likelihood, rounding = float(stats.log_likelihood) / weight, float(stats.rounding) / weight
        require_no_fall(state, log_likelihood, rounding)
        seen = replace(state, rows=int(stats.rows), weight=weight)
        if state.closing:
            return remember(replace(seen, log_likelihood=log_likelihood), stats)
        trace = (*state.trace, log_likelihood)
        params = model.m_step(stats, state.params)
        converged = self.stopping.met(trace)
        return replace(
            seen,
            params=params,
            iteration=state.iteration + 1,
            trace=trace,
            allowance=rounding + permitted_fall(model, state.params, params, stats) / weight,
            closing=converged or state.iteration + 1 >= self.max_iter,
            converged=converged,
        )


def require_no_fall(state: State, log_likelihood: float, rounding: float) -> None:
    """Refuse a log-likelihood of `state.params` that is lower than before the M-step by more than that may cost.

    Raises
    ------
    MonotonicityError : it fell
    """
    if state.iteration == 0:
        return
    before = state.trace[-1]
    tolerance = MONOTONE_TOLERANCE * abs(before) + rounding + state.allowance * (1 + MONOTONE_TOLERANCE)
    if log_likelihood < before - tolerance or log_likelihood != log_likelihood:
        raise MonotonicityError(
            f"iteration {state.iteration} lowered the log-likelihood from {before:.15g} to {log_likelihood:.15g} nats "
            f"per row, a fall of {before - log_likelihood:.3g} where rounding, floors and regularization explain at "
            f"most {tolerance:.3g}. EM cannot do that: either the data changed between passes, or the M-step does not "
            "maximize the expected log-likelihood that its statistics tell: of a family, `maximize` that of its own "
            "`log_prob` under `stats`; of a model of your own, `m_step` that of `e_step` (check_family and check_model "
            "of streamem.conformance say what is wrong)"
        )
