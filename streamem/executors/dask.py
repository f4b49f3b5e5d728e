"""Workers of a Dask cluster: stateless tasks over aligned runs of chunks, combined along the fixed tree there.

A task is (what to do, a run of chunk handles) → one partial sum. What to do travels as a task too, so that the
scheduler can make it again; keys are unique; futures are released after each pass; a bounded window is in flight. One
small result a pass reaches the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar
from uuid import uuid4

from distributed import Client, Future, KilledWorker, as_completed, wait

from streamem.core.errors import ParameterError
from streamem.core.ports import ChunkDone, ChunkRef, Executor, Job, OnChunk, Task
from streamem.core.stats import Stats
from streamem.executors.able_workers import AbleWorkers
from streamem.executors.chunk_cache import is_at_hand
from streamem.executors.lost_connections import answering
from streamem.executors.lost_workers import Patience, died_with_worker, named_losses
from streamem.executors.placement import Placement, preferred
from streamem.executors.spans import SPAN_SECONDS, Partial, Span, combine, cut_spans, shortened, span_length
from streamem.executors.worker_side import (
    ChunkAccess,
    forget,
    identity,
    map_span,
    packed,
    reduce_span,
    run_job,
    unpacked,
)

Result = TypeVar("Result")
Item = TypeVar("Item")
Placed = TypeVar("Placed", Span, Job[Any])
Start = Callable[[Item, str | None], Future]
"""Sends an item to the cluster, near a worker."""
Sum: TypeAlias = Future | Partial
"""Of a group of spans: on the cluster, or here."""


IN_FLIGHT_PER_THREAD = 3
FAN_IN = 16
PIECES = 0
"""Stands for the number of spans where mini-batches draw from single chunks."""
RETRIES = 2
STRAGGLERS_S = 60


class DaskExecutor(Executor):
    """Runs tasks on the workers of a client; all of one executor's chunks are of one plan over unchanged data.

    Parameters
    ----------
    client : distributed.Client
    cache_bytes : decoded chunks that each worker process may keep between passes, until the executor's end
    ahead : chunks that each task fetches ahead, where all of a plan come through a network
    """

    def __init__(self, client: Client, cache_bytes: int = 0, ahead: int = 0) -> None:
        self._client = client
        with answering(client):
            self._address = str(client.scheduler.address)
        # Not the data's fingerprint: other plans and other columns of the same data have other chunks.
        self._access = ChunkAccess(uuid4().hex, cache_bytes, ahead)
        self._chunk_seconds: float | None = None
        self._blocks: dict[tuple[int, int, int], Future] = {}
        self._workers, self._able = AbleWorkers(client), dict[str, int]()

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.clear()
        self._workers.__exit__()
        if self._access.cache_bytes and self._client.status == "running":
            with suppress(Exception):  # only a courtesy: what is left is bounded
                self._client.run(forget, self._access.token, workers=sorted(self._able), wait=False)

    @property
    def n_threads(self) -> int:
        """Threads of all workers, at least 1."""
        return max(1, sum((self._able or self._client.nthreads()).values()))

    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks: the same bits as on threads."""
        with named_losses(self._client, self._address, self._workers):
            return self._reduce(task, refs, on_chunk)

    def _reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        submit = self._submitter(reduce_span, task, *_bare(refs[:1]))
        spans = self._spans(refs)
        results: list[Future | None] = [None] * len(spans)
        groups: dict[int, Sum] = {}
        pieces = bool(refs) and refs[0].selection is not None

        def start(span: Span, near: str | None) -> Future:
            if not pieces:
                return submit(self._block(span, len(spans)), span.refs, near)
            piece = span.refs[0]
            return submit(self._block(Span(span.position, piece.made_of), PIECES), span.refs, near, piece.selection)

        running: _Running[Span] = _Running(self._client)
        try:
            for span, future in self._finished(spans, running, start):
                results[span.position] = future
                on_chunk(ChunkDone(span.rows, span.nbytes, 0.0, 0.0))
                self._join(span.position // FAN_IN, results, groups)
        finally:
            running.cancel()
        total = self._total(groups, spans, start)
        on_chunk(ChunkDone(0, 0, total.wait_s, total.compute_s, total.retried))
        if not pieces:
            self._chunk_seconds = (total.wait_s + total.compute_s) / max(1, len(refs))
        return total.stats

    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order, a window of spans ahead of the reader."""
        with named_losses(self._client, self._address, self._workers):
            yield from self._map(task, refs, on_chunk)

    def _map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        submit = self._submitter(map_span, task, *_bare(refs[:1]))
        spans, workers = self._spans(refs, getattr(task, "row_nbytes", 0)), sorted(self._able)
        waiting: deque[tuple[Span, Future]] = deque()

        def start(span: Span) -> None:
            near = preferred(workers, self._name(span)) if workers else None
            waiting.append((span, submit(self._block(span, len(spans)), span.refs, near)))

        def again(span: Span, near: str | None) -> Future:
            self._await([future for _, future in waiting])
            return submit(self._block(span, len(spans)), span.refs, near)

        ahead = iter(spans)
        for span in islice(ahead, IN_FLIGHT_PER_THREAD * self.n_threads):
            start(span)
        while waiting:
            span, future = waiting.popleft()
            results = self._fetched(span, future, again)
            for following in islice(ahead, 1):
                start(following)
            for ref, result in zip(span.refs, results, strict=True):
                on_chunk(ChunkDone(ref.rows, ref.nbytes, 0.0, 0.0))
                yield result

    def _name(self, item: Span | Job[Any]) -> str:
        """The name of an item, equal in every pass."""
        return f"{self._access.token}-{item.refs[0].index}"

    def work(
        self, task: Task[Any], jobs: Sequence[Job[Result]], on_chunk: OnChunk
    ) -> Iterator[tuple[Job[Result], Result]]:
        """Jobs as they finish; after a failure, those that run are awaited, so that nothing happens afterwards."""
        with named_losses(self._client, self._address, self._workers):
            yield from self._work(task, jobs, on_chunk)

    def _work(
        self, task: Task[Any], jobs: Sequence[Job[Result]], on_chunk: OnChunk
    ) -> Iterator[tuple[Job[Result], Result]]:
        submit = self._submitter(run_job, task, *(job.with_refs(_bare(job.refs)) for job in jobs[:1]))
        running: _Running[Job[Result]] = _Running(self._client)

        def start(job: Job[Result], near: str | None) -> Future:
            return submit(self._sent(job), job.refs, near)

        try:
            for job, future in self._finished(jobs, running, start):
                result = self._fetched(job, future, start)
                on_chunk(ChunkDone(sum(ref.rows for ref in job.refs), sum(ref.nbytes for ref in job.refs), 0.0, 0.0))
                yield job, result
        except BaseException:
            running.drain(STRAGGLERS_S)
            raise
        finally:
            running.cancel()

    def _sent(self, job: Job[Any]) -> Future:
        return self._send(job.with_refs(_bare(job.refs)), job.refs, "job")

    def _send(self, value: Any, refs: Sequence[ChunkRef], what: str) -> Future:
        """Send handles `refs`, or a value that holds them; rows that are in memory as they are."""
        if any(map(is_at_hand, refs)):
            return self._workers.submit(identity, value, key=_key(what))
        return self._workers.submit(unpacked, packed(value), key=_key(what))

    def _spans(self, refs: Sequence[ChunkRef], row_nbytes: int = 0) -> list[Span]:
        if refs and refs[0].selection is not None:  # each goes where its chunk is kept
            return cut_spans(refs, 1)
        # Chunks that lie on workers already are worked on where they lie: neighbours may lie apart.
        seconds = SPAN_SECONDS if any(_futures(ref) for ref in refs) else self._chunk_seconds
        return cut_spans(refs, shortened(span_length(refs, self.n_threads, seconds), refs, row_nbytes))

    def _ship(self, task: Any, *first: Any) -> Future:
        """Send a task to workers that can import what it, and what it is applied to `first`, are made of."""
        self._able = self._workers.threads(task, *first)  # before anything is sent
        return self._workers.submit(identity, task, key=_key("task"))

    def _submitter(self, run: Callable[..., Any], task: Any, *first: Any) -> Callable[..., Future]:
        """How to run a task over chunks, near where they are; it is sent once, unless it died with workers."""
        shipped = self._ship(task, *first)

        def submit(what: Future, refs: Sequence[ChunkRef], near: str | None, *more: Any) -> Future:
            nonlocal shipped
            if died_with_worker(shipped):
                shipped = self._ship(task, *first)
            held = {key: self._own(future) for ref in refs for key, future in _futures(ref).items()}
            near = None if held else near
            return self._workers.submit(
                run,
                shipped,
                what,
                self._access,
                held,
                *more,
                near=near,
                key=_key("run"),
                retries=RETRIES,
            )

        return submit

    def _own(self, future: Future) -> Future:
        """A future of the user's collection, as a future of this client."""
        if future.client is self._client:
            return future
        theirs, ours = future.client.scheduler.address, self._client.scheduler.address
        if theirs != ours:
            raise ParameterError(
                f"the collection is persisted on the cluster {theirs}, and this runs on {ours}; pass the client of the "
                "former as executor="
            )
        return Future(future.key, self._client)

    def _block(self, span: Span, n_spans: int) -> Future:
        """The handles of a span on the cluster, sent once for all passes."""
        # By all indices: passes over some of the chunks have spans that begin alike.
        place = (n_spans, span.refs[0].index, hash(tuple(ref.index for ref in span.refs)))
        if place not in self._blocks or died_with_worker(self._blocks[place]):
            self._blocks = {known: block for known, block in self._blocks.items() if known[0] == n_spans}
            self._blocks[place] = self._send(_bare(span.refs), span.refs, "refs")
        return self._blocks[place]

    def _finished(
        self, items: Sequence[Placed], running: _Running[Placed], start: Start[Placed]
    ) -> Iterator[tuple[Placed, Future]]:
        """Items as they finish; those whose workers died, again at the end, each alone."""
        suspects: list[Placed] = []
        for item, future in self._flow(items, running, start):
            if self._died(future):
                suspects.append(item)
            else:
                yield item, future
        yield from self._alone(suspects, start)

    def _died(self, future: Future) -> bool:
        """Whether a task that ended was given up since its workers died; else it is finished.

        A result may be lost with its worker before anybody looks at it: Dask makes it again, which is waited for.
        Other errors of the task are raised.
        """
        while (status := future.status) in ("pending", "lost"):
            self._await([future])
        if died_with_worker(future):
            return True
        if status != "finished":
            future.result()
        return False

    def _flow(
        self, items: Sequence[Placed], running: _Running[Placed], start: Start[Placed]
    ) -> Iterator[tuple[Placed, Future]]:
        """Start all items, a bounded number at a time, and yield them as they end."""
        workers = self._able or {"": 1}
        placement = Placement(workers, items, [self._name(item) for item in items])
        placed: dict[Future, str] = {}
        while placement or running:
            while placement and len(running) < IN_FLIGHT_PER_THREAD * sum(workers.values()):
                item, worker = placement.take()
                running.add(future := start(item, worker or None), item)
                placed[future] = worker
            for item, future in running.take():
                placement.done(placed.pop(future))
                yield item, future

    def _alone(self, suspects: Sequence[Placed], start: Start[Placed]) -> Iterator[tuple[Placed, Future]]:
        """Run items one at a time: Dask blames a worker's death on all that it had, and alone the culprit shows."""
        left, patience = deque(suspects), Patience()
        while left:
            item = left.popleft()
            if self._died(future := start(item, None)):
                patience.died(future, item.refs)
                left.append(item)
                continue
            patience.progressed()
            yield item, future

    def _fetched(self, item: Placed, future: Future, start: Start[Placed]) -> Any:
        """The result of an item, here; one that was lost with its workers is made again, alone."""
        patience = Patience()
        while True:
            with suppress(KilledWorker):
                return future.result()
            patience.died(future, item.refs)
            ((_, future),) = self._alone([item], start)

    def _await(self, futures: Sequence[Future]) -> None:
        """Wait until all have ended, whatever their ends."""
        with self._client.as_current():
            wait(list(futures))

    def _join(self, group: int, results: list[Future | None], groups: dict[int, Sum]) -> None:
        """Combine a group of neighbouring spans once all are there."""
        first = group * FAN_IN
        members = results[first : first + FAN_IN]
        if any(member is None for member in members):
            return
        groups[group] = self._combine([member for member in members if member is not None])
        results[first : first + FAN_IN] = [None] * len(members)

    def _total(self, groups: dict[int, Sum], spans: Sequence[Span], start: Start[Span]) -> Partial:
        """The sum of all groups; those that were lost with workers are made again."""
        patience = Patience()
        while True:
            total = self._climb([groups[i] for i in range(-(-len(spans) // FAN_IN))])
            if isinstance(total, Partial):
                return total
            with suppress(KilledWorker):
                found: Partial = total.result()
                return found
            patience.died(total, (spans[0].refs[0], spans[-1].refs[-1]))
            self._mend(groups, spans, start)

    def _mend(self, groups: dict[int, Sum], spans: Sequence[Span], start: Start[Span]) -> None:
        """Make groups again of which a part was lost with its workers, and keep them here, where none dies."""
        there = {group: future for group, future in groups.items() if isinstance(future, Future)}
        self._await(list(there.values()))
        for group in [group for group, future in there.items() if died_with_worker(future)]:
            members = spans[group * FAN_IN : (group + 1) * FAN_IN]
            groups[group] = combine([self._fetched(span, start(span, None), start) for span in members])

    def _climb(self, sums: Sequence[Sum]) -> Sum:
        while len(sums) > 1:
            sums = [self._combine(sums[i : i + FAN_IN]) for i in range(0, len(sums), FAN_IN)]
        return sums[0]

    def _combine(self, sums: Sequence[Sum]) -> Future:
        return self._workers.submit(combine, list(sums), key=_key("sum"), retries=RETRIES)


def _futures(ref: ChunkRef) -> Mapping[Any, Future]:
    return ref.on_cluster


def _bare(refs: Sequence[ChunkRef]) -> tuple[ChunkRef, ...]:
    """Handles without the results that they rest on: these travel as dependencies of tasks."""
    return tuple(ref.given(dict.fromkeys(ref.on_cluster)) if ref.on_cluster else ref for ref in refs)


def _key(what: str) -> str:
    return f"streamem-{what}-{uuid4().hex}"


class _Running(Generic[Item]):
    """Futures in flight, by item; a start and an end cost equally much, however many are in flight."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._items: dict[Future, Item] = {}
        self._completed = as_completed(loop=client.loop, raise_errors=False)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, future: Future, item: Item) -> None:
        """Watch one more future."""
        self._items[future] = item
        self._completed.add(future)

    def take(self) -> Iterator[tuple[Item, Future]]:
        """Wait until some futures have ended."""
        for future in self._completed.next_batch():
            yield self._items.pop(future), future

    def drain(self, seconds: float) -> None:
        """Wait until all futures have ended."""
        with self._client.as_current(), suppress(TimeoutError):
            wait(list(self._items), timeout=seconds)

    def cancel(self) -> None:
        """Cancel futures that have not ended."""
        if self._items:
            self._client.cancel(list(self._items))
