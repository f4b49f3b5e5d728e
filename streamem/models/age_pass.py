"""Forward–backward over the sequences of a chunk for states that have ages: scaled, and in logarithms where needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import PATH, Boundary
from streamem.core.errors import NumericalError
from streamem.machine.lanes import lanes_for
from streamem.machine.thread_buffer import thread_buffer
from streamem.models.chain_pass import Chain, ChainPass, ChainSums, impossible
from streamem.models.durations import AgeTable
from streamem.models.emissions import Emissions
from streamem.models.steps import Steps

Array = NDArray[Any]

BLOCK_NUMBERS = 2**18
"""Numbers of the steps that are held at a time, at least: short sequences need no second way forward."""


class AgedChain(NamedTuple):
    """Probabilities of starts and moves, and those of leaving at each age."""

    chain: Chain
    ages: AgeTable

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        k, d = self.ages.leave.shape
        return int(k), int(d)

    def entry(self, before: Array | None, log: bool) -> Array:
        """(K, D) the sub-state before the first step, or where a sequence begins that of the first one: of age 1."""
        if before is not None:
            found = before.reshape(self.shape)
            found = found - np.logaddexp.reduce(found, axis=None)
            return found if log else np.exp(found)
        entry = np.full(self.shape, -np.inf if log else 0.0)
        entry[:, 0] = self.chain.log_startprob if log else self.chain.startprob
        return entry

    def exit(self, after: Array | None, log: bool) -> Array:
        """(K, D) the likelihood of what follows a sequence, but for a factor."""
        found = np.zeros(self.shape) if after is None else (after - after.max()).reshape(self.shape)
        return found if log else np.exp(found)


@dataclass(eq=False)
class AgeSums(ChainSums):
    """Expected counts, weighted; beside those of a chain how often states are left and stayed in, by age (K, D)."""

    leaves: Array
    stays: Array

    def others(self) -> dict[str, Array]:
        """leaves and stays."""
        return {"leaves": self.leaves, "stays": self.stays}


class AgePass(ChainPass):
    """One pass over a chunk at fixed parameters; arguments and use are those of `ChainPass`."""

    def __init__(
        self, aged: AgedChain, emissions: Emissions, steps: Steps, boundary: Boundary, group_rows: int
    ) -> None:
        k, d = aged.shape
        self._aged, self.emissions, self._steps, self._group_rows = aged, emissions, steps, group_rows
        self._k, self._d, self._width, self._boundary = k, d, lanes_for(k), boundary
        self.sums: AgeSums = AgeSums(
            0.0, np.zeros(k), np.zeros((k, k)), np.zeros(k), np.zeros((k, d)), np.zeros((k, d))
        )

    def gammas(self, weights: Array) -> Iterator[tuple[int, int, Array]]:
        """(first row, row after the last, weighted γ (rows, width)) of group after group; fills `sums`."""
        spans = self._steps.spans
        for group in self._steps.groups(self._group_rows):
            first, stop = int(spans[group.start, 0]), int(spans[group.stop - 1, 1])
            b, gamma = (thread_buffer(f"ages {name}", (stop - first, self._width)) for name in ("b", "gamma"))
            peaks = thread_buffer("ages peaks", (stop - first,))
            gamma[:] = 0.0
            self.emissions.scaled(first, stop, b, peaks)
            for s in range(group.start, group.stop):
                begin, end = (spans[s] - first).tolist()
                if begin < end:
                    self._sequence(s, float(weights[s]), b[begin:end], peaks[begin:end], gamma[begin:end])
            yield first, stop, gamma

    def _sequence(self, s: int, weight: float, b: Array, peaks: Array, gamma: Array) -> None:
        before = self._boundary.before if s == 0 else None
        after = self._boundary.after if s == len(self._steps.spans) - 1 else None
        chain, sums = self._aged.chain, self.sums
        way = Way(before, before is not None, after, chain.transmat[None], chain.log_transmat[None])
        sums.log_likelihood += weight * self._along(s, way, weight, b, peaks, gamma, sums.transitions[None])
        sums.visits += gamma[:, : self._k].sum(axis=0)
        if before is None:
            sums.begun += gamma[0, : self._k]

    def _along(
        self, s: int, way: Way, weight: float, b: Array, peaks: Array, gamma: Array, transitions: Array
    ) -> float:
        """The log-likelihood of sequence s; fills γ and counts."""
        aged, table, sums = self._aged, self._aged.ages, self.sums
        held, marks = _blocks(len(b) + way.cut, aged.shape)
        known = kernels.age_recursions(
            b, peaks, aged.entry(way.before, False), way.cut, aged.exit(way.after, False), way.moves, table.leave,
            table.stay, weight, held, marks, gamma, sums.leaves, sums.stays, transitions,
        )  # fmt: skip
        if np.isfinite(known):
            return float(known)
        first, stop = self._steps.spans[s].tolist()
        log_prob = self.emissions.log_prob(first, stop)
        steps = with_none(log_prob) if len(b) > len(log_prob) else log_prob
        known = kernels.age_log_recursions(
            steps, aged.entry(way.before, True), way.cut, aged.exit(way.after, True), way.log_moves, table.log_leave,
            table.log_stay, weight, held, marks, gamma, sums.leaves, sums.stays, transitions,
        )  # fmt: skip
        if not np.isfinite(known):
            raise NumericalError(impossible(s, first, stop, log_prob, self.emissions.overflows))
        return float(known)


class Way(NamedTuple):
    """Where a sequence comes from and goes to, and how it moves; `cut` if `before` is of the step before the first."""

    before: Array | None
    cut: bool
    after: Array | None
    moves: Array
    log_moves: Array


def with_none(log_prob: Array) -> Array:
    """Log-densities (n, K) and those of one more step at which nothing was observed."""
    return np.vstack([log_prob, np.zeros((1, log_prob.shape[1]))])


def _blocks(steps: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Room for the sub-states of a block of steps, and for those at the beginning of each block."""
    rows = min(max(isqrt(steps) + 1, BLOCK_NUMBERS // (shape[0] * shape[1])), steps)
    return thread_buffer("ages held", (rows, *shape)), thread_buffer("ages marks", (-(-steps // rows), *shape))


def block_bytes(steps: int, shape: tuple[int, int]) -> int:
    """What `_blocks` take, and the arrays of one step."""
    k, d = shape
    rows = min(max(isqrt(steps) + 1, BLOCK_NUMBERS // (k * d)), max(steps, 1))
    return 8 * k * d * (rows + -(-steps // rows) + 16)


class AgeMessages:
    """The one sequence of a chunk at fixed parameters: what it tells of itself, given where it comes from and goes to.

    Messages are logarithms (K·D,) up to constants, of sub-states (k, a) in C order.
    """

    def __init__(self, aged: AgedChain, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._aged, self._emissions, self._boundary = aged, emissions, boundary
        self._first, self._stop = steps.spans[0].tolist()

    def forward(self, question: str) -> Array:
        """(K·D,) of the sub-state at the last step."""
        before, aged = self._boundary.before, self._aged
        entry = aged.entry(before, True)
        if self._first == self._stop:
            return entry.ravel() if before is None else before
        log_prob, table = self._log_prob(), aged.ages
        given = log_prob, entry, before is not None, aged.chain.log_transmat[None], table.log_leave, table.log_stay
        if question == PATH:
            return np.asarray(kernels.best_age_scores(*given)).ravel()
        return np.asarray(kernels.age_log_forward(*given)[0]).ravel()

    def backward(self, question: str) -> Array:
        """(K·D,) of all steps and what follows, given the sub-state before them."""
        aged, table = self._aged, self._aged.ages
        exit = aged.exit(self._boundary.after, True)
        if self._first == self._stop:
            return exit.ravel()
        told = kernels.best_age_rest if question == PATH else kernels.age_log_backward
        given = self._log_prob(), exit, aged.chain.log_transmat[None], table.log_leave, table.log_stay
        return np.asarray(told(*given)).ravel()

    def _log_prob(self) -> Array:
        return np.ascontiguousarray(self._emissions.log_prob(self._first, self._stop))
