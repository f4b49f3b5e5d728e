"""What a piece of a cut sequence does to whatever comes before it: the product of transitions and emissions.

In logarithms up to constants, because only ratios are needed: the log-likelihood is summed in the pass itself. With
K right-hand sides a step costs K³ products, until they agree: a chain forgets where it came from, mostly within some
tens of steps, and one of them goes on for all. A chain of many states that forgets slowly goes one piece after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import PATH, SUMS, Boundary
from streamem.machine.lanes import lanes_for
from streamem.machine.thread_buffer import thread_buffer
from streamem.models.chain_pass import Chain, entry_of
from streamem.models.emissions import Emissions
from streamem.models.steps import Steps

Array = NDArray[Any]

CHEAP = 16
"""Most states whose operators cost less than reading the data a third time, one piece after another, even where all of
their rows go on to the end."""

SEGMENT = 8192
"""Steps whose densities are held at a time."""

SPARSE = 1e-40
"""Where a transition is less probable, what underflowed could matter later, and it is bounded from both sides."""

AGREEING = 1e-12
"""How far such bounds may differ, in nats."""


class Reach(NamedTuple):
    """Recursions (m, K) in logarithms up to a constant, and what the constant is, for comparisons."""

    logs: Array
    constant: float


class ChainOperators:
    """The one sequence of a chunk at fixed parameters; `boundary` is where it comes from and goes to."""

    def __init__(self, chain: Chain, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._chain, self._emissions, self._steps, self._boundary = chain, emissions, steps, boundary
        self._sparse = bool((chain.transmat < SPARSE).any())
        self._nothing = steps.spans[0, 0] == steps.spans[0, 1]

    @staticmethod
    def promising(chain: Chain, question: str) -> bool:
        """Whether to try operators: a function of the chain alone, because bits depend on it."""
        return len(chain.startprob) <= CHEAP or (question != PATH and not bool((chain.transmat < SPARSE).any()))

    def forward(self, question: str) -> Array:
        """(K,) of the state at the last step."""
        before = self._boundary.before
        entry = entry_of(self._chain, before, question)
        if self._nothing:
            return entry if before is None else before
        return np.asarray(_found(self._recursion(question, entry[None], self._chain.log_transmat))[0])

    def backward(self, question: str) -> Array:
        """(K,) of all steps and what follows, given the state before them."""
        after = self._boundary.after
        exit = np.zeros(len(self._chain.startprob)) if after is None else after
        if self._nothing:
            return exit
        transposed = np.ascontiguousarray(self._chain.log_transmat.T)
        ahead = _found(self._recursion(question, exit[None], transposed, backwards=True))[0]
        # One more transition, from the state before the first step.
        return _combined(ahead, transposed, question)

    def operator(self, question: str, affordable: bool = False) -> Array | None:
        """(K, K) of the state at the last step, given the state before the first.

        If it is to be affordable, None where it costs much more than `forward`.
        """
        if self._nothing:
            with np.errstate(divide="ignore"):
                return np.log(np.eye(len(self._chain.startprob)))
        brief = affordable and len(self._chain.startprob) > CHEAP
        return self._recursion(question, self._chain.log_transmat, self._chain.log_transmat, brief=brief)

    def _recursion(
        self, question: str, entries: Array, matrix: Array, backwards: bool = False, brief: bool = False
    ) -> Array | None:
        """Forward recursions (m, K) from m entries, in the order of the rows or against it; `brief` ones may fail."""
        first, stop = self._steps.spans[0].tolist()
        if question == PATH:
            return self._best(first, stop, entries, matrix, backwards)
        return self._scaled(first, stop, entries, matrix, backwards, brief)

    def _scaled(
        self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool, brief: bool
    ) -> Array | None:
        lower = _Bound(entries, matrix, 0.0)
        upper = _Bound(entries, matrix, kernels.FLOOR) if self._sparse else None
        for b, tried in self._segments(first, stop, len(entries) if brief else 0, backwards):
            lower.advance(b)
            if tried and not lower.agreed:
                return None
            if upper is not None:
                upper.advance(b)
        low = lower.result()
        known = np.isfinite(low.logs)
        if upper is not None:
            # What underflowed is between the bounds; what no path reaches is zero in truth.
            high = upper.result()
            known &= high.logs - low.logs + (high.constant - low.constant) < AGREEING
            known |= ~_reached(entries > -np.inf, matrix > -np.inf, stop - first)
            low.logs[~known | np.isnan(low.logs)] = -np.inf
        if not known.all():
            return self._in_logarithms(first, stop, entries, matrix, backwards)
        return low.logs

    def _segments(self, first: int, stop: int, trials: int, backwards: bool) -> Iterator[tuple[Array, bool]]:
        """Scaled densities, segment after segment; the first is short and a trial, where `trials` rows go on in it."""
        n, width = stop - first, lanes_for(len(self._chain.startprob))
        held = min(SEGMENT, n)
        b, peaks, done = thread_buffer("hmm b", (held, width)), thread_buffer("hmm peaks", (held,)), 0
        while done < n:
            tried = bool(trials) and not done
            rows = min(held, n - done, -(-n // trials) if tried else n)
            begin = stop - done - rows if backwards else first + done
            self._emissions.scaled(begin, begin + rows, b[:rows], peaks[:rows])
            yield (np.ascontiguousarray(b[:rows][::-1]) if backwards else b[:rows]), tried
            done += rows

    def _in_logarithms(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        log_prob = self._log_prob(first, stop, backwards)
        return np.stack([kernels.log_scores(log_prob, np.ascontiguousarray(entry), matrix) for entry in entries])

    def _best(self, first: int, stop: int, entries: Array, matrix: Array, backwards: bool) -> Array:
        k = entries.shape[1]
        width, levels = lanes_for(k), np.zeros(len(entries))
        rows = filled_up(entries, width)
        log_prob = filled_up(self._log_prob(first, stop, backwards), width)
        kernels.paths(width).scores(log_prob, filled_up(matrix, width, width), rows, levels)
        return rows[:, :k] + levels[:, None]

    def _log_prob(self, first: int, stop: int, backwards: bool) -> Array:
        log_prob = self._emissions.log_prob(first, stop)
        return np.ascontiguousarray(log_prob[::-1]) if backwards else log_prob


class _Bound:
    """Recursions (m, K) in scaled numbers, side by side until they agree, of which no entry is let below `least`."""

    def __init__(self, entries: Array, matrix: Array, least: float) -> None:
        m, k = entries.shape
        width = lanes_for(k)
        self._operator, self._k, self._least = kernels.recursions(width).operator, k, least
        self._scales, self._shared = entries.max(axis=1), np.zeros(1)
        self._scales[self._scales == -np.inf] = 0.0
        self._rows, self._matrix = np.zeros((m, width)), np.zeros((width, width))
        self._rows[:, :k] = np.exp(entries - self._scales[:, None])
        self._matrix[:k, :k] = np.exp(matrix)
        self._begun, self.agreed = False, False

    def advance(self, b: Array) -> None:
        """Take steps (n, width); the first of all is entered already."""
        if not self._begun:
            self._rows[:, : self._k] = np.maximum(self._rows[:, : self._k] * b[0, : self._k], self._least)
            self._begun, b = True, b[1:]
        alive = self._rows[:1] if self.agreed else self._rows
        self.agreed = self._operator(b, self._matrix, alive, self._scales, self._shared, self._least)

    def result(self) -> Reach:
        """All rows of the operator, in logarithms."""
        rows = self._rows[:1] if self.agreed else self._rows
        with np.errstate(divide="ignore"):
            return Reach(np.log(rows[:, : self._k]) + self._scales[:, None], float(self._shared[0]))


def _found(values: Array | None) -> Array:
    assert values is not None  # a recursion that is not brief has an end
    return values


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
