"""Threads of this process: readers load ahead while workers compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from streamem.core.blas import limit_this_thread, one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import ChunkDone, ChunkRef, Executor, OnChunk, Task
from streamem.core.reduction import TreeReduction
from streamem.core.retrying import RETRIED
from streamem.core.stats import Stats
from streamem.executors.chunk_cache import ChunkCache, KeptChunks, is_at_hand
from streamem.executors.following import Following
from streamem.kernels.plain_kernel import drop_kernel

Result = TypeVar("Result")


LOOK_S = 0.05
"""How often the calling thread looks what workers have done: waking it for every chunk costs as much as a small one."""

Numbered = Iterable[tuple[int, ChunkRef]]
Loading = Future[Callable[[], Chunk]] | None
"""Of what is left to do for a chunk when it was read: nothing, or to decode what was fetched."""


class _Load(Protocol):
    def __call__(self, ref: ChunkRef, fetched: ChunkRef | None = None) -> Chunk: ...


@dataclass(frozen=True)
class _Finished(Generic[Result]):
    value: Result
    done: ChunkDone


class ThreadsExecutor(Executor):
    """`n_threads` workers with one BLAS thread each, and as many readers.

    Parameters
    ----------
    n_threads : workers
    in_flight : chunks loaded or being loaded at any time; bounds the memory
    cache_bytes : decoded chunks kept for handles made of parts of them: mini-batches, sequences
    keep_bytes : decoded chunks of one call of `reduce` that are kept for those that follow
    ahead : chunks of which the stored bytes are fetched ahead, where every chunk of a plan comes through a network
        (`ChunkRef.fetches`): by threads of their own, as many as that, which do nothing but wait
    again : whether the chunks of a call are those of the next one, in the same order: what comes through a network is
        then fetched for the next call while one ends (`Following`)
    gone : told the bytes of each chunk once it was worked on
    shuffle : reorders submissions; for tests of the law that order does not matter
    """

    def __init__(
        self,
        n_threads: int,
        in_flight: int | None = None,
        cache_bytes: int = 0,
        keep_bytes: int = 0,
        ahead: int = 0,
        again: bool = False,
        gone: Callable[[int], None] = lambda nbytes: None,
        shuffle: Callable[[Numbered], Numbered] = iter,
    ) -> None:
        if n_threads < 1:
            raise ParameterError(f"n_threads is {n_threads}; it must be at least 1")
        self.n_threads = n_threads
        self.in_flight = max(1, in_flight if in_flight is not None else 2 * n_threads)
        self.ahead, self._gone, self._shuffle = ahead, gone, shuffle
        self._cache, self._cache_bytes = ChunkCache(), cache_bytes
        self._kept = KeptChunks(keep_bytes)
        self._following = Following(again, self._fetch_unless_kept)
        self._readers = ThreadPoolExecutor(n_threads, "streamem-read")
        self._fetchers = ThreadPoolExecutor(max(1, ahead), "streamem-fetch")
        self._workers = ThreadPoolExecutor(n_threads, "streamem-compute", limit_this_thread)
        self._limits = ExitStack()
        self._asked: tuple[Sequence[ChunkRef], bool] = (), False
        """The last handles that `_window` was asked about, and whether all come through a network."""

    def __enter__(self) -> Self:
        # One BLAS thread a worker: never more threads than cores, and the same bits at every thread count.
        self._limits.enter_context(one_blas_thread())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._following.drop()
        self._workers.shutdown(wait=True, cancel_futures=True)
        for waiting in (self._readers, self._fetchers):
            waiting.shutdown(wait=True, cancel_futures=True)
        self._limits.close()
        drop_kernel()  # where the calling thread did the work itself

    def expect(self, refs: Sequence[ChunkRef]) -> None:
        """Begin to fetch what such a pass reads first, where all of it comes through a network."""
        window = self._window(refs)
        self._following.begin(refs if window else ())
        while self._following.coming < window and self._following.fetch_one():
            pass

    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks, along the fixed tree."""
        if len(refs) == 1:  # a mini-batch: no other thread could help
            self._following.begin(())
            alone = self._compute(task, refs[0], None)
            on_chunk(alone.done)
            return alone.value
        tree, lock, done = TreeReduction(len(refs)), Lock(), deque[ChunkDone]()
        ahead = self._window(refs)
        self._following.begin(refs if ahead else ())
        most = max(self.in_flight, self.n_threads + ahead) if ahead else self.in_flight
        feed = _Feed(self._shuffle(enumerate(refs)), most, self._fetch if ahead else self._begin, self._following)

        def work() -> None:
            while (taken := feed.take()) is not None:
                position, ref, loading = taken
                finished = self._compute(task, ref, loading)
                del taken, loading  # the chunk, before the next one is loaded
                with lock:
                    tree.add(position, finished.value)
                feed.over()
                done.append(finished.done)

        workers: list[Future[None]] = []
        try:
            workers.extend(self._workers.submit(work) for _ in range(self.n_threads))
            running = True
            while running:
                ended, others = wait(workers, LOOK_S, FIRST_EXCEPTION)
                running = bool(others)
                while done:
                    on_chunk(done.popleft())
                for worker in ended:
                    worker.result()
        finally:
            feed.stop()
            wait(workers)
        return tree.result()

    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order."""
        running: deque[Future[_Finished[Result]]] = deque()
        coming = self._coming(refs)
        try:
            for _ in refs:
                if len(running) >= self.in_flight:
                    yield self._take(running.popleft(), on_chunk)
                ref, loading = next(coming)
                running.append(self._workers.submit(self._compute, task, ref, loading))
                del loading  # the chunk, before the next one is loaded
            while running:
                yield self._take(running.popleft(), on_chunk)
        finally:
            coming.close()
            _cancel(running)

    def _coming(self, refs: Sequence[ChunkRef]) -> Generator[tuple[ChunkRef, Loading]]:
        """Each chunk of a plan with its loading, begun before that of the chunks that follow it, or well before."""
        begun: deque[tuple[ChunkRef, Loading]] = deque()
        most = self._window(refs)
        self._following.begin(refs if most else ())
        submit = self._fetchers.submit if most else self._readers.submit
        try:
            for ref in refs:
                if len(begun) > most:
                    yield begun.popleft()
                begun.append((ref, self._following.take(ref) or submit(self._read, ref, self._kept.load)))
            while begun:
                yield begun.popleft()
                self._following.fetch_one()
        finally:
            _cancel(loading for _, loading in begun if loading is not None)

    def _window(self, refs: Sequence[ChunkRef]) -> int:
        """How many chunks to fetch ahead: none unless all come through a network."""
        if self.ahead and refs is not self._asked[0]:  # passes of a fit hand over one plan again and again
            self._asked = refs, all(ref.fetches()[0] for ref in refs)
        return self.ahead if self._asked[1] else 0

    def _fetch(self, ref: ChunkRef) -> Loading:
        return self._following.take(ref) or self._fetchers.submit(self._read, ref, self._kept.keep)

    def _fetch_unless_kept(self, ref: ChunkRef) -> Loading:
        return None if self._kept.has(ref) else self._fetchers.submit(self._read, ref, self._kept.keep)

    def _begin(self, ref: ChunkRef) -> Loading:
        """Have a reader load a chunk, unless there is nothing to wait for."""
        return None if is_at_hand(ref) else self._readers.submit(self._read, ref, self._kept.keep)

    def _read(self, ref: ChunkRef, load: _Load) -> Callable[[], Chunk]:
        """A reader's part: loading, or of a chunk that can be fetched, all that waits for storage."""
        if not self._kept.has(ref) and (fetched := ref.fetched()) is not ref:
            return lambda: load(ref, fetched)
        chunk = self._load(ref, load)
        return lambda: chunk

    def _load(self, ref: ChunkRef, load: _Load) -> Chunk:
        if ref.made_of and not is_at_hand(ref):
            return self._cache.load("", ref, self._cache_bytes, load)
        return load(ref)

    def _compute(self, task: Task[Result], ref: ChunkRef, loading: Loading) -> _Finished[Result]:
        started = perf_counter()
        chunk = self._load(ref, self._kept.keep) if loading is None else loading.result()()
        loaded = perf_counter()
        value = task(chunk, ref)
        waited, computed = loaded - started, perf_counter() - loaded
        del chunk, loading
        self._gone(ref.nbytes)
        return _Finished(value, ChunkDone(ref.rows, ref.nbytes, waited, computed, RETRIED.take()))

    @staticmethod
    def _take(future: Future[_Finished[Result]], on_chunk: OnChunk) -> Result:
        finished = future.result()
        on_chunk(finished.done)
        return finished.value


class _Feed:
    """Hands the chunks of a pass to workers in order, while readers load the next ones.

    Workers do not wait for the thread that began the pass: that cost more than a small chunk's arithmetic.
    """

    def __init__(
        self, numbered: Numbered, most: int, begin: Callable[[ChunkRef], Loading], following: Following
    ) -> None:
        self._left, self._most, self._begin, self._following = iter(numbered), most, begin, following
        self._lock = Lock()
        self._ahead: deque[tuple[int, ChunkRef, Loading]] = deque()
        self._busy, self._stopped = 0, False

    def take(self) -> tuple[int, ChunkRef, Loading] | None:
        """The next chunk; None if none is left, or if memory has no room for one more."""
        with self._lock:
            while not self._stopped and len(self._ahead) + self._busy + self._following.coming < self._most:
                if (item := next(self._left, None)) is not None:
                    self._ahead.append((*item, self._begin(item[1])))
                elif not self._following.fetch_one():
                    break
            if self._stopped or not self._ahead:
                return None
            self._busy += 1
            return self._ahead.popleft()

    def over(self) -> None:
        """Note that a chunk that was taken is gone from memory."""
        with self._lock:
            self._busy -= 1

    def stop(self) -> None:
        """End the feed: no more chunks are handed out."""
        self._stopped = True  # first of all: an interrupt while the lock is waited for must not leave the rest to do
        with self._lock:
            _cancel(loading for _, _, loading in self._ahead if loading is not None)
            self._ahead.clear()


def _cancel(futures: Iterable[Future[Any]]) -> None:
    futures = list(futures)
    for future in futures:
        future.cancel()
    wait(future for future in futures if not future.cancelled())
