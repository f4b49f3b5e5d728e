"""Chunks and tasks that record how an executor treats them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamem.conformance.tolerance import require
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkDone, ChunkRef
from streamem.core.stats import Stats

PATIENCE_S = 30.0
"""Longest wait for something that must come."""

OVERRUN_S = 0.2
"""How long something that must not come gets to come."""


class PlantedError(RuntimeError):
    """What the suite raises in tasks and loads."""


def _nothing(index: int) -> None:
    return None


def ignore(done: ChunkDone) -> None:
    return None


@dataclass(frozen=True, eq=False)
class MemoryRef(ChunkRef):
    """Rows made from the index; magnitudes differ so much that every order of summation has bits of its own."""

    index: int
    start: int
    rows: int
    before: Callable[[int], None] = _nothing
    after: Callable[[int, Chunk], None] | None = None
    fail_at: int = -1

    @property
    def nbytes(self) -> int:
        """Two float64 a row."""
        return 16 * self.rows

    @property
    def load_nbytes(self) -> int:
        """Bytes while it is loaded: those of the chunk."""
        return self.nbytes

    def load(self) -> Chunk:
        """The chunk, with equal bits at every call."""
        self.before(self.index)
        if self.index == self.fail_at:
            raise PlantedError("planted")
        rng = np.random.default_rng(self.index)
        chunk = Chunk(rng.normal(size=(self.rows, 2)) * 10.0 ** rng.uniform(-6, 6, (self.rows, 1)))
        if self.after is not None:
            self.after(self.index, chunk)
        return chunk


def make_refs(n: int, before: Callable[[int], None] = _nothing, **hooks: Any) -> list[MemoryRef]:
    """A plan of n chunks of unequal length."""
    rows = [3 + index % 4 for index in range(n)]
    starts = np.cumsum([0, *rows]).tolist()
    return [MemoryRef(i, starts[i], rows[i], before, **hooks) for i in range(n)]


@dataclass(frozen=True, eq=False)
class Sums:
    """The sum of a chunk's rows, in a nested statistic too."""

    before: Callable[[int], None] = _nothing
    after: Callable[[int], None] = _nothing
    fail_at: int = -1

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Columns, and squares."""
        self.before(ref.index)
        if ref.index == self.fail_at:
            raise PlantedError("planted")
        stats = Stats(x=chunk.x.sum(axis=0), inner=Stats(squares=(chunk.x**2).sum(axis=0), rows=chunk.rows))
        self.after(ref.index)
        return stats


@dataclass(frozen=True, eq=False)
class Position:
    """The position of a chunk in its plan."""

    before: Callable[[int], None] = _nothing
    fail_at: int = -1

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> int:
        """Statistics that hold nothing of the chunk itself."""
        self.before(ref.index)
        if ref.index == self.fail_at:
            raise PlantedError("planted")
        return ref.index


def sum_by_hand(refs: Sequence[MemoryRef]) -> Stats:
    """Left part: the largest power of two below n; right part: the rest; then left + right."""
    if len(refs) == 1:
        return Sums()(refs[0].load(), refs[0])
    half = 1 << (len(refs) - 1).bit_length() - 1
    return sum_by_hand(refs[:half]) + sum_by_hand(refs[half:])


def require_raises(call: Callable[[], Any]) -> None:
    try:
        call()
    except PlantedError as error:
        require(str(error) == "planted", f"the message became {error}")
    else:
        raise AssertionError("an error in a chunk was lost")


class Delays:
    """Groups of `parallel` neighbours end in a random order: each waits for one of its group to be past its turn."""

    def __init__(self, n: int, parallel: int, rng: np.random.Generator) -> None:
        self._past = [threading.Event() for _ in range(n)]
        self._after: dict[int, int] = {}
        for first in range(0, n, parallel):
            turns = (first + rng.permutation(min(parallel, n - first))).tolist()
            self._after.update(zip(turns[1:], turns, strict=False))

    def again(self) -> Delays:
        """These delays once more, for another run."""
        copy = Delays(len(self._past), 1, np.random.default_rng(0))
        copy._after = self._after
        return copy

    def wait_turn(self, index: int) -> None:
        """Wait until the chunk before this one has come."""
        before = self._after.get(index)
        if before is not None and not self._past[before].wait(PATIENCE_S):
            raise TimeoutError(f"chunk {before} did not start beside chunk {index}: is `parallel` too large?")
        self._past[index].set()


@dataclass
class Live:
    """Counts chunks from the beginning of their load to the end of their task, and chunks still referenced."""

    limit: int
    begun: int = 0
    ended: int = 0
    most: int = 0
    held: int = 0
    most_held: int = 0
    overrun: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.RLock)

    def load(self, index: int) -> None:
        with self.lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.ended)
            if self.begun > self.limit:
                self.overrun.set()

    def loaded(self, index: int, chunk: Chunk) -> None:
        with self.lock:
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        weakref.finalize(chunk, self._let_go)

    def hold_first(self, index: int) -> None:
        """The first chunk's task lasts until loads had every chance to run ahead."""
        if index == 0:
            self.overrun.wait(OVERRUN_S)

    def end(self, index: int) -> None:
        with self.lock:
            self.ended += 1

    def _let_go(self) -> None:
        with self.lock:
            self.held -= 1

    def require_bound(self) -> None:
        require(self.most <= self.limit, f"{self.most} chunks were in flight, {self.limit} are allowed")
        # A thread may still unwind from a task whose successor is loading already: one more for each of those.
        require(self.most_held <= 2 * self.limit, f"{self.most_held} chunks were held at once")
