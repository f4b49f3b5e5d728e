"""Forward–backward over the sequences of a chunk whose transitions depend on covariates of the steps.

A transition belongs to the step that it leaves. So what lies before a piece of a cut sequence is told as the state at
its *first* step, given all before it, and what lies after it as the likelihood of that, given the state at the first
step *after* the piece; the piece itself counts the transition out of its last step.

Rows are gone through in segments, since transitions take K² numbers a row; densities and α are held for all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import PATH, SUMS, Boundary
from streamem.core.errors import NumericalError
from streamem.machine.lanes import lanes_for
from streamem.models.chain_pass import impossible
from streamem.models.emissions import Emissions
from streamem.models.logit_moves import MoveSums, log_moves
from streamem.models.steps import Steps

Array = NDArray[Any]

SEGMENT_NUMBERS = 2**18
"""Transition probabilities that are held at a time."""


@dataclass(frozen=True, eq=False)
class Drive:
    """The chain at fixed parameters, over the rows of a chunk.

    Attributes
    ----------
    log_startprob : (K,)
    logits : (K, K, q)
    rows : ũ (n, q) of every row
    jumps : whether no state follows itself
    """

    log_startprob: Array
    logits: Array
    rows: Array
    jumps: bool = False

    @property
    def n_states(self) -> int:
        """K."""
        return len(self.log_startprob)

    def moves(self, first: int, stop: int) -> Array:
        """Logarithms (rows, K, K) of the transitions out of rows first … stop − 1."""
        return log_moves(self.logits, self.rows[first:stop], self.jumps)

    def segments(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Rows first … stop − 1 in pieces."""
        size = max(1, SEGMENT_NUMBERS // self.n_states**2)
        return [(a, min(a + size, stop)) for a in range(first, stop, size)]


class DrivenPass:
    """One pass over a chunk at fixed parameters.

    Attributes
    ----------
    log_likelihood, begun : in nats, and (K,) expected first states, weighted
    moves : expected transitions
    """

    def __init__(self, drive: Drive, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._drive, self.emissions, self._steps, k = drive, emissions, steps, drive.n_states
        self.log_likelihood, self.begun, self.moves = 0.0, np.zeros(k), MoveSums(drive.logits)
        before, after = boundary.before, boundary.after
        self._cut = before is not None
        self._entry = drive.log_startprob if before is None else before - np.logaddexp.reduce(before)
        self._after = None if after is None else after - after.max()

    def gammas(self, weights: Array) -> Iterator[tuple[int, int, Array]]:
        """(first row, row after the last, weighted γ (rows, width)), from the last rows on; fills the sums."""
        spans, n = self._steps.spans, len(self._drive.rows)
        self._log_prob = self.emissions.log_prob(0, n)
        self._alpha, self._gains = np.zeros((n, self._drive.n_states)), np.zeros(n)
        segments = self._drive.segments(0, n)
        for segment in segments:
            self._forward(*segment)
        self._require_possible()
        self.log_likelihood += float(np.repeat(weights, spans[:, 1] - spans[:, 0]) @ self._gains[_rows(spans)])
        ahead: Array | None = None
        for first, stop in reversed(segments):
            gamma, ahead = self._backward(first, stop, weights, ahead)
            yield first, stop, gamma

    def _within(self, first: int, stop: int) -> tuple[Array, Array]:
        """Numbers of the sequences with steps in a segment, and their parts there, counted from its first row."""
        clipped = np.clip(self._steps.spans, first, stop)
        which = np.flatnonzero(clipped[:, 1] > clipped[:, 0])
        return which, clipped[which] - first

    def _forward(self, first: int, stop: int) -> None:
        which, spans = self._within(first, stop)
        entries = np.broadcast_to(self._drive.log_startprob, (len(which), self._drive.n_states)).copy()
        if len(which) and self._steps.spans[which[0], 0] < first:  # it goes on from the segment before
            entries[0] = np.logaddexp.reduce(self._alpha[first - 1][:, None] + self._drive.moves(first - 1, first)[0])
        elif len(which) and which[0] == 0 and self._cut:
            entries[0] = self._entry
        kernels.driven_alphas(
            self._log_prob[first:stop],
            self._drive.moves(first, stop),
            spans,
            entries,
            self._alpha[first:stop],
            self._gains[first:stop],
        )

    def _require_possible(self) -> None:
        if np.isfinite(self._gains).all():
            return
        lost = int(np.argmin(np.isfinite(self._gains)))
        s = int(np.searchsorted(self._steps.spans[:, 1], lost, side="right"))
        first, stop = self._steps.spans[s].tolist()
        raise NumericalError(impossible(s, first, stop, self._log_prob[first:stop], self.emissions.overflows))

    def _backward(self, first: int, stop: int, weights: Array, ahead: Array | None) -> tuple[Array, Array | None]:
        """Weighted γ of a segment; `ahead` (K,) tells of all after it, given the state at the row that follows."""
        k, (which, spans) = self._drive.n_states, self._within(first, stop)
        gamma = np.zeros((stop - first, lanes_for(k)))
        if not len(which):
            return gamma, ahead
        log_prob, alpha, moves = self._log_prob[first:stop], self._alpha[first:stop], self._drive.moves(first, stop)
        exits, last = np.zeros((len(which), k)), int(spans[-1, 1]) - 1
        whole = self._steps.spans[which[-1]]
        head = ahead if whole[1] > stop else self._after if which[-1] == len(self._steps.spans) - 1 else None
        if head is not None:
            exits[-1] = np.logaddexp.reduce(moves[last] + head, axis=1)
        beta = np.zeros_like(alpha)
        kernels.driven_betas(log_prob, moves, spans, exits, alpha, beta)
        seen, weight = _rows(spans), np.zeros(stop - first)
        weight[seen] = np.repeat(weights[which], spans[:, 1] - spans[:, 0])
        gamma[seen, :k] = weight[seen, None] * np.exp(alpha[seen] + beta[seen])
        begins = self._steps.spans[which, 0] >= first
        begins[0] &= not (self._cut and which[0] == 0)  # else it began in another chunk
        self.begun += gamma[spans[begins, 0], :k].sum(axis=0)
        self._count(first, alpha, beta, log_prob, moves, spans, weight, last if head is not None else None, head)
        return gamma, log_prob[0] + beta[0] - self._gains[first] if spans[0, 0] == 0 else None

    def _count(
        self,
        first: int,
        alpha: Array,
        beta: Array,
        log_prob: Array,
        moves: Array,
        spans: Array,
        weight: Array,
        last: int | None,
        head: Array | None,
    ) -> None:
        """Expected transitions out of the rows of a segment."""
        rows = _rows(spans - np.array([0, 1]))
        following = log_prob[rows + 1] + beta[rows + 1]
        if last is not None and head is not None:
            rows, following = np.append(rows, last), np.vstack([following, head])
        both = alpha[rows][:, :, None] + moves[rows] + following[:, None, :]
        both -= both.max(axis=(1, 2), keepdims=True)
        expected = np.exp(both)
        expected *= (weight[rows] / expected.sum(axis=(1, 2)))[:, None, None]
        self.moves.add(expected, moves[rows], self._drive.rows[first + rows])


class DrivenOperators:
    """What the one sequence of a chunk does to whatever comes before it; see `Joining`."""

    def __init__(self, drive: Drive, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._drive, self._emissions, self._boundary = drive, emissions, boundary
        self._first, self._stop = steps.spans[0].tolist()

    def forward(self, question: str) -> Array:
        """(K,) of the state at the first step after the piece."""
        before = self._boundary.before
        entry = self._drive.log_startprob if before is None else before
        return self._carried(question, entry[None].copy())[0]

    def operator(self, question: str) -> Array:
        """(K, K) of the state at the first step after the piece, given that at its first."""
        with np.errstate(divide="ignore"):
            return self._carried(question, np.log(np.eye(self._drive.n_states)))

    def backward(self, question: str) -> Array:
        """(K,) of all steps and what follows, given the state at the first step."""
        after = self._boundary.after
        found = np.zeros((1, self._drive.n_states)) if after is None else after[None].copy()
        is_open = after is not None
        for first, stop in reversed(self._drive.segments(self._first, self._stop)):
            moves = self._drive.moves(first, stop)
            if is_open:
                found = SUMS[question].reduce(moves[-1] + found[0], axis=1)[None]
            turned = np.ascontiguousarray(moves[:-1][::-1].transpose(0, 2, 1))
            log_prob = np.ascontiguousarray(self._emissions.log_prob(first, stop)[::-1])
            kernels.driven_scores(log_prob, turned, found, question == PATH)
            found, is_open = _lowered(found), True
        return np.asarray(found[0])

    def _carried(self, question: str, rows: Array) -> Array:
        """rows (m, K) at the first step → at the first one after the piece."""
        for first, stop in self._drive.segments(self._first, self._stop):
            moves = self._drive.moves(first, stop)
            kernels.driven_scores(self._emissions.log_prob(first, stop), moves, rows, question == PATH)
            rows = _lowered(SUMS[question].reduce(rows[:, :, None] + moves[-1], axis=1))
        return rows


def _rows(spans: Array) -> Array:
    """All rows of spans (s, 2), none of which ends before it begins."""
    lengths = spans[:, 1] - spans[:, 0]
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(spans[:, 0] - before, lengths))


def _lowered(rows: Array) -> Array:
    """All rows less their largest entry, which keeps the digits of long sums."""
    highest = rows.max()
    return rows - highest if np.isfinite(highest) else rows


def best_states(
    drive: Drive, emissions: Emissions, first: int, stop: int, entry: Array, after: Array | None, s: int
) -> Array:
    """The most probable path (steps,) of sequence s from an entry (K,); `after` (K,) follows the last transition.

    Raises
    ------
    NumericalError : no path is possible
    """
    segments, scores, carried = drive.segments(first, stop), [], entry
    for a, b in segments:
        own, moves = emissions.log_prob(a, b), drive.moves(a, b)
        kernels.driven_climb(own, moves, carried)
        carried = (own[-1][:, None] + moves[-1]).max(axis=0)
        scores.append(own)
    path, last = np.empty(stop - first, dtype=np.int64), scores[-1][-1]
    if after is not None:
        last = last + (drive.moves(stop - 1, stop)[0] + after).max(axis=1)
    if not np.isfinite(last.max()):
        raise NumericalError(impossible(s, first, stop, emissions.log_prob(first, stop), emissions.overflows))
    state = int(last.argmax())
    for (a, b), own in zip(reversed(segments), reversed(scores), strict=True):
        if b < stop:
            state = int((own[-1] + drive.moves(b - 1, b)[0][:, path[b - first]]).argmax())
        kernels.driven_trace(own, drive.moves(a, b), state, path[a - first : b - first])
    return path
