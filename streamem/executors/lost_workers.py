"""Dask's errors when a cluster fails, turned into errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from streamem.core.errors import ClusterError, SchedulerLostError, StreamemError, WorkerLostError
from streamem.core.ports import ChunkRef
from streamem.core.validation import where
from streamem.executors.able_workers import AbleWorkers


@contextmanager
def named_losses(client: Client, address: str, workers: AbleWorkers) -> Iterator[None]:
    """A context around code that waits for a cluster: Dask's errors become ours.

    Raises
    ------
    SchedulerLostError : the connection broke
    ClusterError : the scheduler dropped work, or no worker is left that can do it
    """
    try:
        yield
    except (OSError, RuntimeError, CancelledError, ClosedClientError) as error:
        if isinstance(error, RuntimeError) and (isinstance(error, StreamemError) or client.status == "running"):
            raise  # of the work, not of the connection ("IOLoop is closed")
        if workers.trouble is not None:
            raise workers.trouble from error
        if isinstance(error, StreamemError):
            raise
        if "lost dependencies" in str(error):
            raise ClusterError(
                f"the Dask scheduler {address} dropped work: {error}. Its log says why; often something could not be "
                "unpickled there: scheduler, workers and this process need the same versions of Python and of the "
                "modules that a family or source of yours lies in"
            ) from error
        if isinstance(error, OSError) and not isinstance(error, CommClosedError) and client.status == "running":
            raise
        how = "client was closed" if client.status in ("closing", "closed") else "scheduler was lost"
        raise SchedulerLostError(
            f"the Dask {how} ({address}): {type(error).__name__}: {error}. What its cluster held is gone; a "
            "fit with checkpoint='run.npz' goes on from its last complete iteration when the same call is made with "
            "another client"
        ) from error


def result_of(future: Future, refs: Sequence[ChunkRef]) -> Any:
    """The result of a task over some chunks.

    Raises
    ------
    WorkerLostError : workers died of it, or beside it
    """
    try:
        return future.result()
    except KilledWorker as error:
        raise WorkerLostError(
            f"{where(refs[0])} to {where(refs[-1])}: workers died again and again while they had these chunks; give "
            f"workers more memory, or look at their logs ({error})"
        ) from error
