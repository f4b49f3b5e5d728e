"""Threads of this process: readers load ahead while workers compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from streamem.core.blas import limit_this_thread, one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import ChunkDone, ChunkRef, Composed, OnChunk, Task
from streamem.core.reduction import TreeReduction
from streamem.core.stats import Stats
from streamem.executors.chunk_cache import ChunkCache, KeptChunks

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Finished(Generic[Result]):
    position: int
    value: Result
    done: ChunkDone


class ThreadsExecutor:
    """`n_threads` workers with one BLAS thread each, and as many readers.

    Parameters
    ----------
    n_threads : workers
    in_flight : chunks loaded or being loaded at any time; bounds the memory
    cache_bytes : chunks that are held for those that are composed of parts of them: mini-batches, sequences
    keep_bytes : decoded chunks of one call of `reduce` that are kept for those that follow
    shuffle : reorders submissions; for tests of the law that order does not matter
    """

    def __init__(
        self,
        n_threads: int,
        in_flight: int | None = None,
        cache_bytes: int = 0,
        keep_bytes: int = 0,
        shuffle: Callable[[Iterable[tuple[int, ChunkRef]]], Iterable[tuple[int, ChunkRef]]] = iter,
    ) -> None:
        if n_threads < 1:
            raise ParameterError(f"n_threads is {n_threads}; it must be at least 1")
        self.n_threads = n_threads
        self.in_flight = max(1, in_flight if in_flight is not None else 2 * n_threads)
        self._shuffle = shuffle
        self._cache, self._cache_bytes = ChunkCache(), cache_bytes
        self._kept = KeptChunks(keep_bytes)
        self._readers = ThreadPoolExecutor(n_threads, "streamem-read")
        self._workers = ThreadPoolExecutor(n_threads, "streamem-compute", limit_this_thread)
        self._limits = ExitStack()

    def __enter__(self) -> Self:
        # One BLAS thread a worker: never more threads than cores, and the same bits at every thread count.
        self._limits.enter_context(one_blas_thread())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._limits.close()

    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks, along the fixed tree."""
        if len(refs) == 1:  # a mini-batch: no other thread could help
            alone = _compute(task, 0, refs[0], self._loaded(refs[0]))
            on_chunk(alone.done)
            return alone.value
        tree = TreeReduction(len(refs))
        for finished in self._run(task, self._shuffle(enumerate(refs))):
            tree.add(finished.position, finished.value)
            on_chunk(finished.done)
        return tree.result()

    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order."""
        running: deque[Future[_Finished[Result]]] = deque()
        try:
            for position, ref in enumerate(refs):
                if len(running) >= self.in_flight:
                    yield self._take(running.popleft(), on_chunk)
                running.append(self._submit(task, position, ref, self._kept.load))
            while running:
                yield self._take(running.popleft(), on_chunk)
        finally:
            _cancel(running)

    def _run(self, task: Task[Result], numbered: Iterable[tuple[int, ChunkRef]]) -> Iterator[_Finished[Result]]:
        """Results as they finish, with at most `in_flight` chunks alive."""
        running: set[Future[_Finished[Result]]] = set()
        try:
            for position, ref in numbered:
                if len(running) >= self.in_flight:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in ready)
                running.add(self._submit(task, position, ref, self._kept.keep))
            while running:
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        finally:
            _cancel(running)

    def _submit(
        self, task: Task[Result], position: int, ref: ChunkRef, load: Callable[[ChunkRef], Chunk]
    ) -> Future[_Finished[Result]]:
        loading = self._readers.submit(self._load, ref, load)
        return self._workers.submit(_compute, task, position, ref, loading)

    def _load(self, ref: ChunkRef, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        return self._cache.load("", ref, self._cache_bytes, load) if isinstance(ref, Composed) else load(ref)

    def _loaded(self, ref: ChunkRef) -> Future[Chunk]:
        loading: Future[Chunk] = Future()
        loading.set_result(self._load(ref, self._kept.keep))
        return loading

    @staticmethod
    def _take(future: Future[_Finished[Result]], on_chunk: OnChunk) -> Result:
        finished = future.result()
        on_chunk(finished.done)
        return finished.value


def _compute(task: Task[Result], position: int, ref: ChunkRef, loading: Future[Chunk]) -> _Finished[Result]:
    started = perf_counter()
    chunk = loading.result()
    loaded = perf_counter()
    value = task(chunk, ref)
    done = ChunkDone(ref.rows, ref.nbytes, loaded - started, perf_counter() - loaded)
    return _Finished(position, value, done)


def _cancel(futures: Iterable[Future[Any]]) -> None:
    futures = list(futures)
    for future in futures:
        future.cancel()
    wait(future for future in futures if not future.cancelled())
