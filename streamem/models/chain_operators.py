"""What a piece of a cut sequence does to whatever comes before it: the product of transitions and emissions.

In logarithms up to constants, because only ratios are needed: the log-likelihood is summed in the pass itself. With
K right-hand sides a step costs K³ products, so that many states go one piece after another instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.boundary import PATH, SUMS, Boundary
from streamem.models.chain_pass import Chain, entry_of
from streamem.models.emissions import Emissions
from streamem.models.steps import Steps

Array = NDArray[Any]

CHEAP = 16
"""Most states whose operators cost less than reading the data a third time, one piece after another."""

SPARSE = 1e-40
"""Where a transition is less probable, what underflowed could matter later, and it is bounded from both sides."""

AGREEING = 1e-12
"""How far such bounds may differ, in nats."""


class ChainOperators:
    """The one sequence of a chunk at fixed parameters; `boundary` is where it comes from and goes to."""

    def __init__(self, chain: Chain, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._chain, self._emissions, self._steps, self._boundary = chain, emissions, steps, boundary
        self._sparse = bool((chain.transmat < SPARSE).any())

    @staticmethod
    def cheap(n_states: int) -> bool:
        """Whether `operator` is worth its cost: a function of K alone, because bits depend on it."""
        return n_states <= CHEAP

    def forward(self, question: str) -> Array:
        """(K,) of the state at the last step."""
        entry = entry_of(self._chain, self._boundary.before, question)
        return self._recursion(question, entry[None], self._chain.log_transmat)[0]

    def backward(self, question: str) -> Array:
        """(K,) of all steps and what follows, given the state before them."""
        after = self._boundary.after
        exit = np.zeros(len(self._chain.startprob)) if after is None else after
        first, stop = self._steps.spans[0].tolist()
        if first == stop:
            return exit
        transposed = np.ascontiguousarray(self._chain.log_transmat.T)
        ahead = self._recursion(question, exit[None], transposed, backwards=True)[0]
        # One more transition, from the state before the first step.
        return _combined(ahead, transposed, question)

    def operator(self, question: str) -> Array:
        """(K, K) of the state at the last step, given the state before the first."""
        return self._recursion(question, self._chain.log_transmat, self._chain.log_transmat)

    def _recursion(self, question: str, entries: Array, matrix: Array, backwards: bool = False) -> Array:
        """Forward recursions (m, K) from m entries, in the order of the rows or against it."""
        first, stop = self._steps.spans[0].tolist()
        if question == PATH:
            return self._best(first, stop, entries, matrix, backwards)
        return self._scaled(first, stop, entries, matrix, backwards)

    def _scaled(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        from streamem.models.forward_backward import FLOOR, width_of

        k = entries.shape[1]
        b, peaks = np.empty((stop - first, width_of(k))), np.empty(stop - first)
        self._emissions.scaled(first, stop, b, peaks)
        if backwards:
            b = np.ascontiguousarray(b[::-1])
        low = self._bound(b, entries, matrix, 0.0)
        known = np.isfinite(low)
        if self._sparse:
            # What underflowed is between the bounds; what no path reaches is zero in truth.
            known &= self._bound(b, entries, matrix, FLOOR) - low < AGREEING
            known |= ~_reached(entries > -np.inf, matrix > -np.inf, stop - first)
            low[~known | np.isnan(low)] = -np.inf
        if not known.all():
            return self._in_logarithms(first, stop, entries, matrix, backwards)
        return low

    @staticmethod
    def _bound(b: Array, entries: Array, matrix: Array, least: float) -> Array:
        """Logarithms of the recursion, where no entry of it is let below `least`."""
        from streamem.models.forward_backward import recursions

        k, width = entries.shape[1], b.shape[1]
        scales = entries.max(axis=1)
        scales[scales == -np.inf] = 0.0
        rows, padded = np.zeros((len(entries), width)), np.zeros((width, width))
        rows[:, :k] = np.maximum(np.exp(entries - scales[:, None]) * b[0, :k], least)
        padded[:k, :k] = np.exp(matrix)
        recursions(width).operator(b[1:], padded, rows, scales, least)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(rows[:, :k]) + scales[:, None])

    def _in_logarithms(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        from streamem.models.log_recursions import log_scores

        log_prob = self._log_prob(first, stop, backwards)
        return np.stack([log_scores(log_prob, np.ascontiguousarray(entry), matrix) for entry in entries])

    def _best(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        from streamem.models.forward_backward import width_of
        from streamem.models.viterbi import paths

        k = entries.shape[1]
        width, levels = width_of(k), np.zeros(len(entries))
        rows = filled_up(entries, width)
        log_prob = filled_up(self._log_prob(first, stop, backwards), width)
        paths(width).scores(log_prob, filled_up(matrix, width, width), rows, levels)
        return rows[:, :k] + levels[:, None]

    def _log_prob(self, first: int, stop: int, backwards: bool) -> Array:
        log_prob = self._emissions.log_prob(first, stop)
        return np.ascontiguousarray(log_prob[::-1]) if backwards else log_prob


def filled_up(values: Array, width: int, height: int | None = None) -> Array:
    """Logarithms (m, K) with states of probability 0 up to a width, and a height."""
    out = np.full((height or len(values), width), -np.inf)
    out[: len(values), : values.shape[1]] = values
    return out


def _reached(entries: Array, moves: Array, steps: int) -> Array:
    """(m, K) which states can be reached from entries (m, K) by so many steps less one."""
    reached, power, left = entries, moves, steps - 1
    while left:
        if left & 1:
            reached = reached @ power
        power, left = power @ power, left >> 1
    return reached


def _combined(row: Array, matrix: Array, question: str) -> Array:
    return np.asarray(SUMS[question].reduce(row[:, None] + matrix, axis=0))
