"""What runs on a worker: one BLAS thread a task, a bounded cache of decoded chunks, errors that name their chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import SourceError, StreamemError
from streamem.core.ports import ChunkRef, Job, Task
from streamem.core.reduction import TreeReduction
from streamem.core.row_selection import RowSelection, Selection
from streamem.core.stats import Stats
from streamem.core.validation import where
from streamem.executors.chunk_cache import ChunkCache
from streamem.executors.spans import Partial

Result = TypeVar("Result")


CACHE = ChunkCache()


async def forget(token: str) -> None:
    """Let go of the chunks of an executor that has ended; a coroutine, so that nobody has to wait for it."""
    CACHE.forget(token)


def identity(value: Result) -> Result:
    """A value as a task: unlike scattered data, the scheduler can make it again when a worker dies."""
    return value


@dataclass(frozen=True)
class ChunkAccess:
    """How a task on a worker gets its chunks.

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
            if held:
                return ref.given(held).load()
            return CACHE.load(self.token, ref, self.cache_bytes)
        except (StreamemError, MemoryError):
            raise
        except Exception as error:
            raise SourceError(f"{where(ref)} cannot be read: {type(error).__name__}: {error}") from error


def reduce_span(
    task: Task[Stats],
    refs: Sequence[ChunkRef],
    access: ChunkAccess,
    held: Mapping[Any, Any],
    draws: Sequence[Selection] | None = None,
) -> Partial:
    """The sum of the task over a run of chunks, or over the rows that are drawn from them."""
    if draws is not None:
        refs = [RowSelection(tuple(refs), tuple(draws))]
    tree, wait_s, compute_s = TreeReduction(len(refs)), 0.0, 0.0
    with one_blas_thread():
        for position, ref in enumerate(refs):
            started = perf_counter()
            chunk = access.load(ref, held)
            loaded = perf_counter()
            tree.add(position, _apply(task, chunk, ref))
            wait_s += loaded - started
            compute_s += perf_counter() - loaded
    return Partial(tree.result(), wait_s, compute_s)


def map_span(
    task: Task[Result], refs: Sequence[ChunkRef], access: ChunkAccess, held: Mapping[Any, Any]
) -> list[Result]:
    """The results of the task for a run of chunks."""
    with one_blas_thread():
        return [_apply(task, access.load(ref, held), ref) for ref in refs]


def run_job(task: Task[Any], job: Job[Result], access: ChunkAccess, held: Mapping[Any, Any]) -> Result:
    """A job, with errors that name their chunk."""

    def named(chunk: Chunk, ref: ChunkRef) -> Any:
        return _apply(task, chunk, ref)

    with one_blas_thread():
        return job(named, lambda ref: access.load(ref, held))


def _apply(task: Task[Result], chunk: Chunk, ref: ChunkRef) -> Result:
    try:
        return task(chunk, ref)
    except (StreamemError, MemoryError):
        raise
    except Exception as error:
        error.add_note(where(ref))
        raise
