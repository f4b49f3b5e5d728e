"""Which executor runs a call, and whether the call fits the memory there."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from streamem.core.errors import ClusterError, MemoryLimitError, ParameterError, SchedulerLostError
from streamem.core.ports import ChunkRef, Executor, Source
from streamem.executors import ThreadsExecutor
from streamem.executors.lost_connections import answering
from streamem.machine.importing import import_whole
from streamem.machine.processor import processor_in_words
from streamem.running.lost_clients import LostClients
from streamem.running.memory import (
    TRIMMED_BYTES,
    Budget,
    Projection,
    Trimming,
    fit_into,
    format_bytes,
    keeping,
    project,
    shared_bytes,
)

logger = logging.getLogger("streamem")

RESULTS_IN_FLIGHT = 3
"""Results that wait for the client on a worker, for each of its threads."""

WORKER_CACHE_SHARE = 0.25
"""Part of a worker's memory that may hold decoded chunks between passes."""


@dataclass(frozen=True)
class Engine:
    """How to run one call.

    Attributes
    ----------
    choice : None (the active distributed client if there is one, else threads), "threads", or a client
    n_threads, budget : of this process
    workspace : bytes that one running task needs besides its chunk
    what, verbose : for the progress bar
    """

    choice: Any
    n_threads: int
    budget: Budget
    workspace: int
    what: str
    verbose: int

    def project(
        self,
        source: Source,
        refs: Sequence[ChunkRef],
        held: int,
        sample: int = 0,
        result: int = 0,
        writing: int = 0,
        summed: bool = True,
        opened: int = 0,
        again: bool = False,
    ) -> Projection:
        """What the call will hold in this process, cut down to the budget.

        Parameters
        ----------
        held : bytes of the result of one chunk
        sample, result, writing : bytes that stay here besides
        summed : whether the results of chunks are added up along the tree, or taken one after the other
        opened : bytes of chunks or statistics that the algorithm keeps
        again : whether the chunks are read in pass after pass, so that keeping some of them saves time

        Raises
        ------
        MemoryLimitError : it does not fit, here or on a worker
        """
        client = client_of(self.choice)
        opened += shared_bytes(refs, self.n_threads)
        if client is None:
            projection = project(refs, self.n_threads, self.workspace, held, sample, result, writing, summed, opened)
        else:
            there = project(refs, 1, self.workspace, held, summed=summed)
            room = _room_on_workers(client, source, there)
            projection = project([], 1, 0, held, sample, result, writing, summed, opened)
            most = there.ahead if room is None else min(there.ahead, room // max(1, there.fetching))
            projection = replace(projection, ahead=most)  # of which nothing is held here
        fitting = fit_into(projection, self.budget, source.schema.origin)
        return keeping(fitting, refs, self.budget) if again and client is None else fitting

    @property
    def is_remote(self) -> bool:
        """Whether other processes do the work."""
        return client_of(self.choice) is not None

    @property
    def remote_threads(self) -> int:
        """Threads of all workers, at least 1."""
        return max(1, sum(_threads(client_of(self.choice)).values()))

    @contextmanager
    def executor(self, source: Source, projection: Projection) -> Iterator[Executor]:
        """The executor for a projection."""
        client = client_of(self.choice)
        if client is None:
            sizes = projection.n_threads, projection.in_flight, projection.opened, projection.kept, projection.ahead
            limit = self.budget.explicit
            gone = Trimming(max(TRIMMED_BYTES, limit // 2)).gone if projection.ahead and limit else _ignore
            with ThreadsExecutor(*sizes, projection.again, gone) as threads:
                yield threads
            return
        cluster = import_whole("streamem.executors.dask")
        cached = max(_cache_bytes(client), projection.opened)
        try:
            with cluster.DaskExecutor(client, cached, projection.ahead) as executor:
                yield executor
        except SchedulerLostError:
            if self.choice is None:
                _LOST.broke(client)
            raise

    def describe(self, projection: Projection) -> dict[str, Any]:
        """The setting, for the report."""
        limits = {"projected": format_bytes(projection.total), "limit": format_bytes(self.budget.limit_bytes)}
        client = client_of(self.choice)
        if client is None:
            kept = {"chunks kept": format_bytes(projection.kept)} if projection.kept else {}
            here: dict[str, Any] = {"threads": projection.n_threads, "chunks in flight": projection.in_flight}
            if projection.ahead:
                here["chunks fetched ahead"] = projection.ahead
            return {**here, **kept, **limits, "processor": processor_in_words()}
        threads = _threads(client)
        return {"workers": len(threads), "threads": sum(threads.values()), **limits}


def _ignore(nbytes: int) -> None:
    return


def client_of(choice: Any) -> Any:
    """The distributed client to use, or None for threads.

    Raises
    ------
    ParameterError : neither a client, "threads" nor None
    """
    distributed = sys.modules.get("distributed")
    if isinstance(choice, str) and choice == "threads":
        _LOST.threads_chosen()
        return None
    if choice is None:
        return _active_client(distributed)
    if distributed is not None and isinstance(choice, distributed.Client):
        if choice.status != "running":
            raise ClusterError(f"the client passed as executor is {choice.status}; connect it, or make a new one")
        if choice in _INHERITED:
            raise ClusterError(
                "the client passed as executor belongs to the process that this one was forked from, and answers only "
                "there; make a new one here: Client(client.scheduler.address)"
            )
        _SEEN.add(choice)
        return _usable(choice)
    raise ParameterError(f"executor is {choice!r}; it must be a distributed.Client, 'threads', or None")


def _active_client(distributed: Any) -> Any:
    # Only someone who has imported distributed can have a client, so nobody else pays for the import.
    if distributed is None:
        return None
    try:
        client = distributed.default_client()
    except ValueError:
        _LOST.require_none(distributed)
        return None
    if client in _INHERITED:
        logger.info("the active Dask client belongs to the process that this one was forked from; threads work instead")
        return None
    if client.status not in ("running", "closing"):
        _LOST.told(client)
        raise ClusterError(
            f"the active Dask client is {client.status}: it has no scheduler; close it and make a new one, or pass "
            "executor='threads'"
        )
    _LOST.active(client, distributed)
    return _usable(client)


def _usable(client: Any) -> Any:
    """The client, unless this very thread is the one that would have to answer it.

    Raises
    ------
    ClusterError : called in the event loop of the client
    """
    if client.asynchronous:
        raise ClusterError(
            "the Dask client belongs to the event loop in which this call was made, and cannot answer before the call "
            "returns; call it in a thread: await asyncio.to_thread(model.fit, X, executor=client), or pass "
            "executor='threads'"
        )
    return client


_LOST = LostClients()

_INHERITED: weakref.WeakSet[Any] = weakref.WeakSet()
"""Clients of the process that this one was forked from: the thread that would answer does not exist here."""
_SEEN: weakref.WeakSet[Any] = weakref.WeakSet()


def _inherit() -> None:
    _INHERITED.update(_SEEN)
    if (distributed := sys.modules.get("distributed")) is not None:
        with suppress(ValueError):  # there is none
            _INHERITED.add(distributed.default_client())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit)


def _worker_memory(client: Any) -> list[tuple[str, int, int]]:
    """(address, threads, memory limit in bytes; 0 for none) of every worker."""
    with answering(client):
        workers = client.scheduler_info(n_workers=-1)["workers"]
    return [(address, int(w["nthreads"]), int(w["memory_limit"] or 0)) for address, w in workers.items()]


def _threads(client: Any) -> dict[str, int]:
    """Threads of every worker."""
    with answering(client):
        found: dict[str, int] = client.nthreads()
    return found


def _cache_bytes(client: Any) -> int:
    limits = [limit for _, _, limit in _worker_memory(client) if limit]
    return int(min(limits) * WORKER_CACHE_SHARE) if limits else 0


def _room_on_workers(client: Any, source: Source, projection: Projection) -> int | None:
    """Bytes for each thread of the smallest worker that are left for what is fetched ahead; None for no limit.

    Raises
    ------
    MemoryLimitError : a worker is too small for a chunk a thread
    """
    rooms: list[int] = []
    for address, threads, limit in _worker_memory(client):
        results = max(projection.levels, RESULTS_IN_FLIGHT) * projection.statistics
        needed = threads * (projection.loading + projection.workspace + results)
        if limit and needed > limit * (1 - WORKER_CACHE_SHARE):
            raise MemoryLimitError(
                f"reading {source.schema.origin}: worker {address} would need {format_bytes(needed)} for {threads} "
                f"threads ({format_bytes(projection.loading)} to load a chunk, {format_bytes(projection.workspace)} to "
                f"work on it) and has {format_bytes(limit)}, a quarter of it for cached chunks; start workers with "
                "fewer threads or more memory, or store the data in smaller chunks"
            )
        if limit:
            rooms.append(int(limit * (1 - WORKER_CACHE_SHARE) - needed) // threads)
    return min(rooms, default=None)
