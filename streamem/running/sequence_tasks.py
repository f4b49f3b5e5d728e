"""Tasks for an executor about sequences: each chunk with the boundaries to what lies beyond it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import PATH, POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.ports import ChunkRef, Executor, PassTask
from streamem.core.sequences import Sequences
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite, where
from streamem.models import HMM
from streamem.models.boundaries import boundaries
from streamem.models.steps import missing_rows
from streamem.running.row_tasks import Apply, ScoreSequences

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class WeighAlong(PassTask[float]):
    """The weight of the rows or steps of a chunk that count: `weight_of` of the model; padding is none."""

    model: Any

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> float:
        """The answer for one chunk."""
        with _named(ref):
            return float(self.model.weight_of(chunk))


@dataclass(frozen=True, eq=False)
class ApplyAlong(Apply):
    """Answers a question about every step: states or their probabilities.

    Attributes
    ----------
    model : whose method `describe` is
    kind : of the messages that it needs, "posterior" or "path"
    """

    model: HMM = field(kw_only=True)
    kind: str = field(kw_only=True)

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> Apply:
        """This task with the boundaries of cut sequences: takes passes over the chunks that cut one."""
        found = boundaries(self.model, self.params, refs, executor, self.names, self.kind)
        return replace(self, messages=found)

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The answer for one chunk, in the dtype wanted."""
        with _named(ref):
            return super().__call__(chunk, ref)


@dataclass(frozen=True, eq=False)
class ScoreAlong(ScoreSequences):
    """Weighted log-likelihood of the sequences."""

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> ScoreAlong:
        """This task with the boundaries of cut sequences: takes passes over the chunks that cut one."""
        return replace(self, messages=boundaries(self.model, self.params, refs, executor, self.names, POSTERIOR))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """rows, weight and log_likelihood of one chunk."""
        with _named(ref):
            return super().__call__(chunk, ref)


# --- how probable a path is ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PathPart:
    """The path within a chunk, and its part in the log-probability of the whole.

    Attributes
    ----------
    states : (n,) int64
    walk : (n,) int64, the path in all that the model tells apart: see `walk` of the model
    log_prob : of its emissions, and of the starts and transitions within it, in nats
    opened : whether a sequence is cut at its beginning
    beyond : log-probabilities of the transition out of the last step of the walk, to each that the model tells apart,
        where a sequence is cut there; else None
    """

    states: Array
    walk: Array
    log_prob: float
    opened: bool
    beyond: Array | None

    @property
    def first(self) -> int:
        """The step of the walk where a sequence was cut before it, else −1."""
        return int(self.walk[0]) if self.opened and len(self.walk) else -1


@dataclass(frozen=True, eq=False)
class ScorePath(PassTask[PathPart]):
    """The most probable path z, and log p(x, z)."""

    model: HMM
    params: Params
    names: tuple[str, ...] | None
    messages: Mapping[int, Boundary] = field(default_factory=dict)

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> ScorePath:
        """This task with the boundaries of cut sequences: takes passes over the chunks that cut one."""
        return replace(self, messages=boundaries(self.model, self.params, refs, executor, self.names, PATH))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> PathPart:
        """The answer for one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        with locating(chunk, ref, self.names), _named(ref):
            walk = self.model.walk(self.params, chunk, self.messages.get(ref.index))
            states = self.model.states_of(walk)
            own = self._emitted(chunk.x, states)
            sequences = chunk.sequences or Sequences(np.array([0, chunk.rows], dtype=np.int64))
            own += self._moved(chunk, walk, sequences)
            return PathPart(states, walk, own, sequences.opened, self._beyond(chunk, walk, sequences))

    def _emitted(self, x: Array, states: Array) -> float:
        missing = missing_rows(x)
        seen = states >= 0 if missing is None else ~missing & (states >= 0)
        log_prob = self.model.family.log_prob(self.params.components, x[seen])
        return float(np.take_along_axis(log_prob, states[seen][:, None], axis=1).sum())

    def _moved(self, chunk: Chunk, walk: Array, sequences: Sequences) -> float:
        """Starts of sequences, and transitions within them."""
        offsets = sequences.offsets
        starts = offsets[:-1][np.diff(offsets) > 0]
        begun = starts[1:] if sequences.opened else starts
        is_start = np.zeros(len(walk) + 1, dtype=np.bool_)
        is_start[starts] = True
        moved = ~is_start[1 : len(walk)] & (walk[1:] >= 0) if len(walk) else np.zeros(0, dtype=np.bool_)
        begun = begun[walk[begun] >= 0]
        rows = np.flatnonzero(moved)
        moves = self.model.log_moves(self.params, chunk, rows, walk[rows], walk[rows + 1])
        return float(self.model.log_starts(self.params, walk[begun]).sum() + moves.sum())

    def _beyond(self, chunk: Chunk, walk: Array, sequences: Sequences) -> Array | None:
        """Log-probabilities of the transition out of the last step, where its sequence goes on in the next chunk."""
        if not sequences.continued or not len(walk) or walk[-1] < 0:
            return None
        k = self.model.n_substates
        last, came = np.full(k, len(walk) - 1), np.full(k, walk[-1])
        return self.model.log_moves(self.params, chunk, last, came, np.arange(k))


class PathSum:
    """log p(x, z) of all chunks in order: their parts, and the transitions across cuts."""

    def __init__(self) -> None:
        self.log_prob = 0.0
        self._beyond: Array | None = None

    def add(self, part: PathPart) -> None:
        """The next chunk."""
        self.log_prob += part.log_prob
        if part.first >= 0 and self._beyond is not None:
            self.log_prob += float(self._beyond[part.first])
        self._beyond = part.beyond


@contextmanager
def _named(ref: ChunkRef) -> Iterator[None]:
    """Numerical errors name their chunk."""
    try:
        yield
    except NumericalError as error:
        raise NumericalError(f"{where(ref)}: {error}") from error
