"""Forward–backward over the sequences of a chunk: scaled, and in logarithms where that underflows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import POSTERIOR, SUMS, Boundary
from streamem.core.errors import NumericalError
from streamem.machine.lanes import lanes_for
from streamem.machine.thread_buffer import thread_buffer
from streamem.models.emissions import Emissions
from streamem.models.steps import Steps

Array = NDArray[Any]


class Chain(NamedTuple):
    """Initial (K,) and transition (K, K) probabilities, and their logarithms."""

    startprob: Array
    transmat: Array
    log_startprob: Array
    log_transmat: Array

    @classmethod
    def of(cls, startprob: Array, transmat: Array) -> Chain:
        """A chain with the logarithms of its probabilities; that of zero is −inf."""
        with np.errstate(divide="ignore"):
            return cls(startprob, transmat, np.log(startprob), np.log(transmat))


@dataclass(eq=False)
class ChainSums:
    """Expected counts, weighted.

    Attributes
    ----------
    log_likelihood : in nats
    begun : (K,) first states
    transitions : (K, K)
    visits : (K,)
    """

    log_likelihood: float
    begun: Array
    transitions: Array
    visits: Array

    def others(self) -> dict[str, Array]:
        """Counts besides, by name: none of a chain."""
        return {}


class ChainPass:
    """One pass over a chunk at fixed parameters.

    Parameters
    ----------
    chain, emissions, steps : the model and the data
    boundary : what lies beyond the chunk
    group_rows : sequences are taken together up to so many rows
    """

    def __init__(self, chain: Chain, emissions: Emissions, steps: Steps, boundary: Boundary, group_rows: int) -> None:
        k = len(chain.startprob)
        self._chain, self.emissions, self._steps, self._group_rows = chain, emissions, steps, group_rows
        self._k, self._width = k, lanes_for(k)
        self._recursions = kernels.recursions(self._width)
        self._matrix = np.zeros((self._width, self._width))
        self._matrix[:k, :k] = chain.transmat
        self._transposed = np.ascontiguousarray(self._matrix.T)
        self._shared = np.zeros((self._width, self._width))  # Σ v uᵀ, still to be multiplied by the matrix
        self._visits, self._begun = np.zeros((2, self._width))
        zeros = np.zeros(k)
        self.sums = ChainSums(0.0, zeros.copy(), np.zeros((k, k)), zeros.copy())
        self._before = None if boundary.before is None else boundary.before - np.logaddexp.reduce(boundary.before)
        self._entry = entry_of(chain, self._before)
        self._exit = None if boundary.after is None else boundary.after - boundary.after.max()

    def gammas(self, weights: Array) -> Iterator[tuple[int, int, Array]]:
        """(first row, row after the last, weighted γ (rows, width)) of group after group; fills `sums`."""
        groups = self._steps.groups(self._group_rows)
        self._reserve(groups)
        for group in groups:
            spans = self._steps.spans[group]
            first, stop = int(spans[0, 0]), int(spans[-1, 1])
            gamma = self._expected(group, first, stop, spans - first, weights[group])
            if self._steps.padding is not None:
                gamma[self._steps.padding[first:stop]] = 0.0
            yield first, stop, gamma
        self.sums.transitions += self._shared[: self._k, : self._k] * self._chain.transmat
        self.sums.visits += self._visits[: self._k]
        self.sums.begun += self._begun[: self._k]
        for held in (self._shared, self._visits, self._begun):
            held[:] = 0.0

    def _reserve(self, groups: list[slice]) -> None:
        """What every group needs, once for all: for many small ones that costs as much as the arithmetic."""
        spans = self._steps.spans
        rows = max((int(spans[group.stop - 1, 1] - spans[group.start, 0]) for group in groups), default=0)
        count = max((group.stop - group.start for group in groups), default=0)
        self._b, self._v = (thread_buffer(f"hmm {name}", (rows, self._width)) for name in "bv")
        self._peaks = thread_buffer("hmm peaks", (rows,))
        self._known = np.empty(count)
        self._entries, self._exits = np.zeros((2, count, self._width))
        self._entries[:, : self._k], self._exits[:, : self._k] = self._chain.startprob, 1.0

    def _expected(self, group: slice, first: int, stop: int, spans: Array, weights: Array) -> Array:
        b, v, peaks = self._b[: stop - first], self._v[: stop - first], self._peaks[: stop - first]
        known, cut = self._known[: len(spans)], int(group.start == 0 and self._before is not None)
        entries, exits = self._ends(group)
        self.emissions.scaled(first, stop, b, peaks)
        self._recursions.forward(b, peaks, spans, entries, exits, self._matrix, v, known)
        self._recursions.backward(
            b, spans, exits, weights, self._transposed, v, known, self._shared, self._visits, self._begun, cut
        )
        if not np.isfinite(known.sum()):
            for s in np.flatnonzero(~np.isfinite(known)).tolist():
                known[s] = self._in_logarithms(group.start + s, first, v, float(weights[s]), s >= cut)
        self.sums.log_likelihood += float(weights @ known)
        if cut and spans[0, 1] > spans[0, 0]:
            self._arrive(v[spans[0, 0], : self._k])
        return v

    def _ends(self, group: slice) -> tuple[Array, Array]:
        """How every sequence enters its first step, and the likelihood of what follows its last: (s, width) each."""
        count = group.stop - group.start
        entries, exits = self._entries[:count], self._exits[:count]
        if group.start == 0 and self._before is not None:
            entries = entries.copy()
            entries[0, : self._k] = np.exp(self._entry)
        if group.stop == len(self._steps.spans) and self._exit is not None:
            exits = exits.copy()
            exits[-1, : self._k] = np.exp(self._exit)
        return entries, exits

    def _arrive(self, gamma: Array) -> None:
        """Count the transition into the first step of a sequence that was cut before it, for its weighted γ."""
        assert self._before is not None
        with np.errstate(invalid="ignore"):
            came = self._before[:, None] + self._chain.log_transmat - self._entry
        self.sums.transitions += np.where(np.isnan(came), 0.0, np.exp(came)) * gamma

    def _in_logarithms(self, s: int, offset: int, v: Array, weight: float, begins: bool) -> float:
        """Forward–backward of one sequence in logarithms, where scaling is not enough."""
        first, stop = self._steps.spans[s].tolist()
        log_prob = self.emissions.log_prob(first, stop)
        alpha, gains = np.empty_like(log_prob), np.empty(len(log_prob))
        entry = self._entry if s == 0 and self._before is not None else self._chain.log_startprob
        last = s == len(self._steps.spans) - 1
        exit = self._exit if last and self._exit is not None else np.zeros(self._k)
        total = kernels.log_forward(log_prob, entry, self._chain.log_transmat, alpha, gains)
        if not np.isfinite(total) or not (alpha[-1] + exit > -np.inf).any():
            raise NumericalError(impossible(s, first, stop, log_prob, self.emissions.overflows))
        transposed = np.ascontiguousarray(self._chain.log_transmat.T)
        kernels.log_backward(log_prob, exit, transposed, alpha, gains, weight, self.sums.transitions)
        v[first - offset : stop - offset, : self._k] = alpha
        v[first - offset : stop - offset, self._k :] = 0.0
        self.sums.visits += alpha.sum(axis=0)
        if begins:
            self.sums.begun += alpha[0]
        return float(total)


def entry_of(chain: Chain, before: Array | None, question: str = POSTERIOR) -> Array:
    """Logarithm of how a sequence enters the first step of a chunk: startprob, or what `before` predicts."""
    if before is None:
        return chain.log_startprob
    return np.asarray(SUMS[question].reduce(before[:, None] + chain.log_transmat, axis=0))


EMIT_NOT = "remove values that no state can emit"


def impossible(s: int, first: int, stop: int, log_prob: Array, overflows: str) -> str:
    """Why a sequence has no finite log-likelihood."""
    where = f"sequence {s} of the chunk (its rows {first}–{stop - 1})"
    best = log_prob.max(axis=1)
    lost = ~np.isfinite(best)
    if lost.any():
        row = first + int(np.argmax(lost))
        return (
            f"{where} cannot have come from the model: row {row} of the chunk has no finite log-density in any state; "
            + (f"rescale the data, or remove values that no state can emit or {overflows}" if overflows else EMIT_NOT)
        )
    with np.errstate(over="ignore"):
        total = float(best.sum())
    if not np.isfinite(total):
        row = first + int(best.argmin())
        return (
            f"{where} has a log-likelihood below what float64 holds (row {row} of the chunk tells {best.min():.3g} "
            "nats); "
            + ("rescale the data, or remove values whose squares, or sums of them, overflow" if overflows else EMIT_NOT)
        )
    return (
        f"{where} cannot have come from the model: every path through it takes a step of probability 0; "
        "allow more in startprob or transmat, or start from other emissions"
    )
