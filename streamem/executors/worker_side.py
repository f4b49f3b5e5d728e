"""What runs on a worker: one BLAS thread a task, a bounded cache of decoded chunks, errors that name their chunk."""

from __future__ import annotations

import os
import pickle
import socket
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import cloudpickle
from distributed import get_worker

from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import SourceChangedError, SourceError, StreamemError
from streamem.core.ports import ChunkRef, Job, Task
from streamem.core.reduction import TreeReduction
from streamem.core.retrying import RETRIED
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


def packed(value: Any) -> bytes:
    """A value as few bytes, in which the scheduler has nothing to unpickle and little to remember."""
    return zlib.compress(cloudpickle.dumps(value), 1)


def unpacked(data: bytes) -> Any:
    """What was packed, as a task.

    Raises
    ------
    SourceError : handles that open their data as they arrive, such as memory-mapped files, do not find them here
    """
    try:
        return pickle.loads(zlib.decompress(data))
    except OSError as error:
        raise SourceError(
            f"{_this_worker()} cannot open the data: {type(error).__name__}: {error}. {SHARED}"
        ) from error


@dataclass(frozen=True)
class ChunkAccess:
    """How a task on a worker gets its chunks.

    Attributes
    ----------
    token : chunks are cached under it and their index: one plan over unchanged data
    cache_bytes : decoded chunks that this process may keep
    ahead : chunks of which a task fetches the stored bytes ahead, where all of them come through a network
    """

    token: str
    cache_bytes: int
    ahead: int = 0

    def loaded(self, refs: Sequence[ChunkRef], held: Mapping[Any, Any]) -> Iterator[tuple[ChunkRef, Chunk, float]]:
        """Each handle with its chunk, and the seconds that it was waited for."""
        far = len(refs) > 1 and not held and all(ref.fetches()[0] and not ref.made_of for ref in refs)
        with closing(self._coming(refs, self.ahead if far else 0)) as coming:
            for ref, fetched in coming:
                started = perf_counter()
                chunk = self.load(ref, held, fetched)
                yield ref, chunk, perf_counter() - started

    def _coming(self, refs: Sequence[ChunkRef], ahead: int) -> Generator[tuple[ChunkRef, Future[ChunkRef] | None]]:
        if not ahead:
            yield from ((ref, None) for ref in refs)
            return
        begun: deque[tuple[ChunkRef, Future[ChunkRef] | None]] = deque()
        with ThreadPoolExecutor(ahead, "streamem-fetch") as pool:
            try:
                for ref in refs:
                    begun.append((ref, None if CACHE.has(self.token, ref) else pool.submit(ref.fetched)))
                    if len(begun) > ahead:
                        yield begun.popleft()
                while begun:
                    yield begun.popleft()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def load(self, ref: ChunkRef, held: Mapping[Any, Any], fetched: Future[ChunkRef] | None = None) -> Chunk:
        """The chunk: from what the cluster holds, which needs no cache, from the cache, or read.

        `fetched` becomes the handle with its stored bytes in memory.
        """
        try:
            if held:
                return ref.given(held).load()
            if fetched is not None:
                return CACHE.load(self.token, ref, self.cache_bytes, lambda _: fetched.result().load())
            return CACHE.load(self.token, ref, self.cache_bytes)
        except MemoryError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and (unseen := _unseen(ref)):
                changed = isinstance(error, SourceChangedError)  # a worker cannot tell which of the two it is
                kind, told = (SourceChangedError, f"{error}. If it is still there, ") if changed else (SourceError, "")
                raise kind(f"{where(ref)} cannot be read: {told}{unseen}") from error
            if isinstance(error, StreamemError):
                raise
            raise SourceError(f"{where(ref)} cannot be read: {type(error).__name__}: {error}") from error


def _unseen(ref: ChunkRef) -> str:
    """Which files of a handle this worker does not see, in words; "" if it sees all."""
    paths = [path for each in ref.made_of or (ref,) for path in getattr(each, "paths", ()) if not os.path.lexists(path)]
    if not paths:
        return ""
    return f"{_this_worker()} does not see {paths[0]}. {SHARED}"


SHARED = (
    "Data of a cluster lie where all of its workers see them under the same name: in a shared folder, or in a store "
    "such as s3://; or pass executor='threads'"
)


def _this_worker() -> str:
    try:
        worker = get_worker().address
    except ValueError:  # called by hand
        worker = "of this process"
    return f"the worker {worker} on {socket.gethostname()}"


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
        for position, (ref, chunk, waited) in enumerate(access.loaded(refs, held)):
            started = perf_counter()
            tree.add(position, _apply(task, chunk, ref))
            wait_s += waited
            compute_s += perf_counter() - started
    return Partial(tree.result(), wait_s, compute_s, RETRIED.take())


def map_span(
    task: Task[Result], refs: Sequence[ChunkRef], access: ChunkAccess, held: Mapping[Any, Any]
) -> list[Result]:
    """The results of the task for a run of chunks."""
    with one_blas_thread():
        return [_apply(task, chunk, ref) for ref, chunk, _ in access.loaded(refs, held)]


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
