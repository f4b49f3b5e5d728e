"""What runs on a worker: one BLAS thread a task, a bounded cache of decoded chunks, errors that name their chunk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import SourceError, StreamemError
from streamem.core.ports import ChunkRef, Held, Job, Task
from streamem.core.reduction import TreeReduction
from streamem.core.stats import Stats
from streamem.core.validation import where
from streamem.executors.spans import Partial

Result = TypeVar("Result")


class ChunkCache:
    """Decoded chunks of this process, least recently used first out, bounded in bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[str, int], tuple[Chunk, int]] = OrderedDict()
        self.nbytes = 0

    def load(self, token: str, ref: ChunkRef, limit_bytes: int) -> Chunk:
        """The chunk, from the cache or read; `token` names the data, its state, and the plan."""
        key = (token, ref.index)
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key][0]
        chunk = ref.load()
        with self._lock:
            if key not in self._chunks and ref.nbytes <= limit_bytes:
                self._chunks[key] = (chunk, ref.nbytes)
                self.nbytes += ref.nbytes
            while self.nbytes > limit_bytes:
                _, (_, freed) = self._chunks.popitem(last=False)
                self.nbytes -= freed
        return chunk

    def forget(self, token: str) -> None:
        """Let go of all chunks under a token."""
        with self._lock:
            for key in [key for key in self._chunks if key[0] == token]:
                _, freed = self._chunks.pop(key)
                self.nbytes -= freed


CACHE = ChunkCache()


async def forget(token: str) -> None:
    """Let go of the chunks of an executor that has ended; a coroutine, so that nobody has to wait for it."""
    CACHE.forget(token)


def identity(value: Result) -> Result:
    """A value as a task: unlike scattered data, the scheduler can make it again when a worker dies."""
    return value


@dataclass(frozen=True)
class Reading:
    """How a task gets its chunks.

    Attributes
    ----------
    token : chunks are cached under it and their index: one plan over unchanged data
    cache_bytes : decoded chunks that this process may keep
    """

    token: str
    cache_bytes: int

    def load(self, ref: ChunkRef, held: Mapping[Any, Any]) -> Chunk:
        """The chunk: from what the cluster holds, which needs no cache, from the cache, or read."""
        try:
            if held and isinstance(ref, Held):
                return ref.given(held).load()
            return CACHE.load(self.token, ref, self.cache_bytes)
        except (StreamemError, MemoryError):
            raise
        except Exception as error:
            raise SourceError(f"{where(ref)} cannot be read: {type(error).__name__}: {error}") from error


def reduce_span(task: Task[Stats], refs: Sequence[ChunkRef], reading: Reading, held: Mapping[Any, Any]) -> Partial:
    """The sum of the task over a run of chunks."""
    tree, wait_s, compute_s = TreeReduction(len(refs)), 0.0, 0.0
    with one_blas_thread():
        for position, ref in enumerate(refs):
            started = perf_counter()
            chunk = reading.load(ref, held)
            loaded = perf_counter()
            tree.add(position, _apply(task, chunk, ref))
            wait_s += loaded - started
            compute_s += perf_counter() - loaded
    return Partial(tree.result(), wait_s, compute_s)


def map_span(task: Task[Result], refs: Sequence[ChunkRef], reading: Reading, held: Mapping[Any, Any]) -> list[Result]:
    """The results of the task for a run of chunks."""
    with one_blas_thread():
        return [_apply(task, reading.load(ref, held), ref) for ref in refs]


def run_job(task: Task[Any], job: Job[Result], reading: Reading, held: Mapping[Any, Any]) -> Result:
    """A job, with errors that name their chunk."""

    def named(chunk: Chunk, ref: ChunkRef) -> Any:
        return _apply(task, chunk, ref)

    with one_blas_thread():
        return job(named, lambda ref: reading.load(ref, held))


def _apply(task: Task[Result], chunk: Chunk, ref: ChunkRef) -> Result:
    try:
        return task(chunk, ref)
    except (StreamemError, MemoryError):
        raise
    except Exception as error:
        error.add_note(where(ref))
        raise
