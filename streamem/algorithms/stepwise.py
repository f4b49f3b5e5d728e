"""Stepwise (online) EM: the statistics are a moving average over mini-batches (Cappé & Moulines 2009)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamem.algorithms.steps import StepSize
from streamem.core.errors import DataError
from streamem.core.ports import Model, Rebasable
from streamem.core.state import State
from streamem.core.stats import Stats

TRACE = 10_000
"""Batches whose predictive log-likelihood is remembered."""


@dataclass(frozen=True)
class StepwiseEM:
    """s ← (1 − γ)·s + γ·ŝ(θ), θ ← M(s), with s and ŝ per unit of weight.

    `State.memory` holds ``running`` (s), ``seen`` (weight so far), ``crowding`` (Σ of squared shares of the rows in s,
    whose inverse is the effective sample size) and ``batches`` (steps since a pass over all data). Weights are
    frequencies: 2 is the row twice.

    Parameters
    ----------
    step : γ
    least : rows below which s never falls: γ is at most (rows of the batch) / least, so that a few rows cannot make a
        covariance singular
    """

    step: StepSize
    least: float = 0.0

    def begin(self, model: Model, state: State, stats: Stats) -> State:
        """The first statistics, taken at the parameters of `state`."""
        weight = _weight(stats)
        return self._moved(model, state, stats * (1.0 / weight), stats, weight, 1.0 / weight)

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """One step with the statistics of a batch, taken at the parameters of `state`."""
        if state.memory is None:
            return self.begin(model, state, stats)
        memory, weight = state.memory, _weight(stats)
        gamma = self.step(weight, float(memory.seen))
        if self.least > 0:
            gamma = min(gamma, max(weight, float(stats.rows)) / self.least)
        running = memory.running * (1.0 - gamma) + stats * (gamma / weight)
        crowding = (1.0 - gamma) ** 2 * float(memory.crowding) + gamma**2 / weight
        return self._moved(model, state, running, stats, weight, crowding)

    @staticmethod
    def _moved(model: Model, state: State, running: Stats, stats: Stats, weight: float, crowding: float) -> State:
        params = model.m_step(running, state.params)
        if isinstance(model, Rebasable):
            running = model.rebase(running, state.params, params)
        seen = weight + (0.0 if state.memory is None else float(state.memory.seen))
        batches = 1.0 + (0.0 if state.memory is None else float(state.memory.batches))
        return replace(
            state,
            params=params,
            iteration=state.iteration + 1,
            trace=(*state.trace[-(TRACE - 1) :], float(stats.log_likelihood) / weight),
            log_likelihood=None,
            converged=False,
            rows=state.rows + int(stats.rows),
            weight=seen,
            memory=Stats(running=running, seen=seen, crowding=crowding, batches=batches),
        )


def remember(state: State, stats: Stats) -> State:
    """A state together with the statistics of a pass over all data at its parameters, so that it can go on online."""
    weight = _weight(stats)
    memory = Stats(running=stats * (1.0 / weight), seen=weight, crowding=1.0 / weight, batches=0.0)
    return replace(state, memory=memory)


def went_online(state: State) -> bool:
    """Whether the last steps were of single batches, whose log-likelihoods are not those of all data."""
    return state.memory is not None and float(state.memory.batches) > 0


def _weight(stats: Stats) -> float:
    weight = float(stats.weight)
    if not weight > 0:
        raise DataError(f"the sample weights of {int(stats.rows)} rows sum to {weight}; at least one must be > 0")
    return weight
