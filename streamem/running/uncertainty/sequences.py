"""Scores and information of sequences (hidden Markov models) and of groups of rows.

The score at the fitted parameters is the expected slope of the complete-data log-likelihood (Fisher's identity), which
an E-step sums up. The second derivative (Oakes 1999) is that of the expected log-likelihood at fixed posteriors, and
how the expected slope changes with the parameters of the posteriors alone: two E-steps a free number, on the
log-densities and slopes of a chunk that was read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Executor, PassTask
from streamem.core.sequences import Sequences
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite
from streamem.models.boundaries import boundaries, chains_of
from streamem.models.steps import missing_rows
from streamem.running.uncertainty.derivatives import Derivatives
from streamem.running.uncertainty.pilot import Prepared
from streamem.running.uncertainty.tabulated import Tables
from streamem.running.uncertainty.ties import Ties

Array = NDArray[Any]

FINER = 1 / 64
"""A step of posteriors, of that of log-densities: posteriors round less."""
Messages = Mapping[int, Boundary]


@dataclass(frozen=True, eq=False)
class SequencePart:
    """What a chunk of sequences adds.

    Attributes
    ----------
    sums : second (K, Q, Q), counts (S,), score (p,), crossed (p, p), products (p, p), overlap (K, K), weight,
        log_likelihood
    first : (p,) score of the piece of a sequence that began before the chunk, and its weight, or None
    last : the same of the piece of one that goes on after it
    passes : whether one piece is all there is
    units : sequences that begin in the chunk
    """

    sums: Stats
    first: tuple[Array, float] | None
    last: tuple[Array, float] | None
    passes: bool
    units: int


@dataclass(frozen=True, eq=False)
class SequenceTask(PassTask[SequencePart]):
    """Sums over the sequences of a chunk.

    Attributes
    ----------
    curved : whether the observed information is wanted
    scored : whether the outer products of scores are
    messages : what lies beyond chunks that cut a sequence
    moved : the same at parameters moved down and up, for each free number
    """

    model: Any
    params: Params
    names: tuple[str, ...] | None
    prepared: Prepared
    ties: Ties
    curved: bool
    scored: bool
    messages: Messages = field(default_factory=dict)
    moved: Sequence[tuple[Messages, Messages]] = ()

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> SequenceTask:
        """The task with the boundaries of cut sequences: one read more, and two a free number where curved."""
        if not chains_of(refs):
            return self

        def found(params: Params) -> Messages:
            return boundaries(self.model, params, refs, executor, self.names, POSTERIOR)

        moved = [(found(self._at(m, -1.0)), found(self._at(m, 1.0))) for m in range(self._size if self.curved else 0)]
        return replace(self, messages=found(self.params), moved=moved)

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> SequencePart:
        """The answer for one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        with locating(chunk, ref, self.names):
            return _Sums(self, chunk, ref).part()

    # --- the free numbers --------------------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        """p."""
        return int(self.prepared.coordinates.index().max(initial=-1)) + 1 + len(self.ties.free_names)

    def places(self) -> list[tuple[int, int]]:
        """Component and coordinate of each free number of the family; those that all share at component 0."""
        index = self.prepared.coordinates.index()
        found = {int(index[k, j]): (int(k), int(j)) for k, j in np.argwhere(index >= 0)[::-1]}
        return [found[m] for m in range(len(found))]

    def step(self, m: int) -> float:
        """How far free number m is moved."""
        places = self.places()
        if m < len(places):
            return FINER * float(self.prepared.coordinates.steps[places[m]])
        return float(self.ties.steps[m - len(places)])

    def _at(self, m: int, sign: float) -> Params:
        places, amount = self.places(), sign * self.step(m)
        if m >= len(places):
            return self.ties.moved(self.params, m - len(places), amount)
        return self.params.replace(components=self.prepared.coordinates.moved_alone(*places[m], amount))


class _Sums:
    """Works out what one chunk adds."""

    def __init__(self, task: SequenceTask, chunk: Chunk, ref: ChunkRef) -> None:
        self._task, self._chunk, self._ref = task, chunk, ref
        c = task.prepared.coordinates
        absent = missing_rows(chunk.x)
        present = np.arange(chunk.rows) if absent is None else np.flatnonzero(~absent)
        x = np.ascontiguousarray(chunk.x[present], dtype=np.float64)
        self._derivatives, self._present = Derivatives(c, task.prepared.pairs, x), present
        self._log_prob = np.zeros((chunk.rows, c.n_components))
        self._log_prob[present] = self._derivatives.log_prob
        self._slopes = np.zeros((c.n_components, chunk.rows, c.width))
        self._slopes[:, present] = self._derivatives.first()
        self._slopes[~np.isfinite(self._log_prob.T)] = 0.0
        places = np.arange(chunk.rows, dtype=np.float64)[:, None]
        if absent is not None:
            places[absent] = np.nan
        self._places = replace(chunk, x=places)
        self._tables = Tables(task.model, self._log_prob, self._slopes)

    def part(self) -> SequencePart:
        """All that was asked for."""
        task, n = self._task, self._task._size
        message = task.messages.get(self._ref.index)
        stats = self._tables.expected(task.params, self._places, message)
        counts = task.ties.counts(stats)
        sums = {
            "weight": stats.weight,
            "log_likelihood": stats.log_likelihood,
            "counts": counts,
            "score": self._score(stats),
            "second": np.zeros((len(self._slopes), self._slopes.shape[2], self._slopes.shape[2])),
            "crossed": np.zeros((n, n)),
            "overlap": np.zeros((len(self._slopes), len(self._slopes))),
            "products": np.zeros((n, n)),
        }
        if task.curved and self._chunk.rows:
            weights = self._tables.weights(task.params, self._places, message)
            total = weights.sum(axis=1, keepdims=True)
            sums["overlap"] = weights.T @ np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            sums["second"] = self._derivatives.second(weights[self._present])
            sums["crossed"] = self._crossed(message)
        first, last, passes, units = None, None, False, 0
        if task.scored:
            first, last, passes, units = self._products(sums["products"], message)
        return SequencePart(Stats(**sums), first, last, passes, units)

    def _crossed(self, message: Boundary | None) -> Array:
        """(p, p) how the expected slopes (rows) change with the parameters of the posteriors (columns)."""
        task, places = self._task, self._task.places()
        out = np.zeros((task._size, task._size))
        split = self._task.prepared.coordinates
        for m in range(task._size):
            found = []
            for side, sign in enumerate((-1.0, 1.0)):
                log_prob, params, amount = self._log_prob, task.params, sign * task.step(m)
                if m < len(places):
                    k, j = places[m]
                    own = slice(None) if split.is_shared(j) else slice(k, k + 1)
                    log_prob = log_prob.copy()
                    log_prob[:, own] += amount * self._slopes[own, :, j].T
                else:
                    params = task.ties.moved(params, m - len(places), amount)
                told = task.moved[m][side].get(self._ref.index) if task.moved else message
                found.append(self._score(self._tables.expected(params, self._places, told, log_prob)))
            out[:, m] = (found[1] - found[0]) / (2.0 * task.step(m))
        return out

    def _products(
        self, out: Array, message: Boundary | None
    ) -> tuple[tuple[Array, float] | None, tuple[Array, float] | None, bool, int]:
        """Outer products of the scores of whole sequences, put into `out`; scores of pieces."""
        sequences = self._chunk.sequences or Sequences(np.array([0, self._chunk.rows], dtype=np.int64))
        offsets, last = sequences.offsets.tolist(), len(sequences) - 1
        first_piece = last_piece = None
        for s in range(len(sequences)):
            begin, stop = offsets[s], offsets[s + 1]
            if begin == stop:
                continue
            weight = 1.0 if self._chunk.weight is None else float(self._chunk.weight[begin])
            opened, continued = sequences.opened and s == 0, sequences.continued and s == last
            known = Boundary(
                message.before if message is not None and s == 0 else None,
                message.after if message is not None and s == last else None,
                message.ended if message is not None and s == last else False,
            )
            own = Sequences(np.array([0, stop - begin], dtype=np.int64), opened, continued, sequences.padded)
            driven = self._chunk.covariates
            piece = Chunk(self._places.x[begin:stop], None, own, None if driven is None else driven[begin:stop])
            score = self._score(self._tables.expected(self._task.params, piece, known))
            if opened:
                first_piece = (score, weight)
            elif continued:
                last_piece = (score, weight)
            else:
                out += weight * np.outer(score, score)
        passes = bool(sequences.opened and sequences.continued and len(sequences) == 1)
        return first_piece, last_piece, passes, len(sequences) - int(sequences.opened)

    def _score(self, stats: Stats) -> Array:
        """(p,) expected slopes in statistics: of the family's free numbers, then of the ties."""
        task = self._task
        index, slopes = task.prepared.coordinates.index(), np.asarray(stats.components.scores)
        tied = task.ties.score(task.ties.counts(stats))
        out = np.zeros(task._size)
        known = index >= 0
        np.add.at(out, index[known], slopes.reshape(index.shape)[known])
        out[len(out) - len(tied) :] = tied
        return out
