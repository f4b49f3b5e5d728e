"""What a piece of a cut sequence does to whatever comes before it: the product of transitions and emissions.

In logarithms up to constants, because only ratios are needed: the log-likelihood is summed in the pass itself. With
K right-hand sides a step costs K³ products, so that many states go one piece after another instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.boundary import PATH, POSTERIOR, SUMS, Boundary
from streamem.models.chain_pass import Chain, entry_of
from streamem.models.emissions import Emissions
from streamem.models.steps import Steps

Array = NDArray[Any]

CHEAP = 16
"""Most states whose operators cost less than reading the data a third time, one piece after another."""

SPARSE = 1e-40
"""Where a transition is less probable, scaled recursions without a check of what underflowed could be wrong."""


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
        if question == PATH or self._sparse:
            return self._in_logarithms(question, first, stop, entries, matrix, backwards)
        return self._scaled(first, stop, entries, matrix, backwards)

    def _scaled(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        from streamem.models.forward_backward import recursions, width_of

        k = entries.shape[1]
        width = width_of(k)
        b, peaks = np.empty((stop - first, width)), np.empty(stop - first)
        self._emissions.scaled(first, stop, b, peaks)
        if backwards:
            b = np.ascontiguousarray(b[::-1])
        heights = entries.max(axis=1)
        rows, padded = np.zeros((len(entries), width)), np.zeros((width, width))
        rows[:, :k] = np.exp(entries - heights[:, None]) * b[0, :k]
        padded[:k, :k] = np.exp(matrix)
        scales = heights.copy()
        recursions(width).operator(b[1:], padded, rows, scales)
        if not (np.isfinite(scales).all() and (rows[:, :k] > 0).all()):
            return self._in_logarithms(POSTERIOR, first, stop, entries, matrix, backwards)
        return np.log(rows[:, :k]) + scales[:, None]

    def _in_logarithms(
        self, question: str, first: int, stop: int, entries: Array, matrix: Array, backwards: bool
    ) -> Array:
        from streamem.models.log_recursions import log_scores
        from streamem.models.viterbi import best_scores

        log_prob = self._emissions.log_prob(first, stop)
        if backwards:
            log_prob = np.ascontiguousarray(log_prob[::-1])
        scores = best_scores if question == PATH else log_scores
        return np.stack([scores(log_prob, np.ascontiguousarray(entry), matrix) for entry in entries])


def _combined(row: Array, matrix: Array, question: str) -> Array:
    return np.asarray(SUMS[question].reduce(row[:, None] + matrix, axis=0))
