"""Dask's errors when a cluster fails, turned into errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from streamem.core.errors import ClusterError, StreamemError, WorkerLostError
from streamem.core.ports import ChunkRef
from streamem.core.validation import where
from streamem.executors.able_workers import AbleWorkers
from streamem.executors.lost_connections import lost_scheduler


@contextmanager
def named_losses(client: Client, address: str, workers: AbleWorkers) -> Iterator[None]:
    """A context around code that waits for a cluster: Dask's errors become ours.

    Raises
    ------
    SchedulerLostError : the connection broke
    ClusterError : the scheduler dropped work, somebody cancelled it, or no worker is left that can do it
    """
    try:
        yield
    except (OSError, RuntimeError, AttributeError, CancelledError, ClosedClientError) as error:
        runs = client.status == "running"
        if isinstance(error, RuntimeError | AttributeError) and (runs or isinstance(error, StreamemError)):
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
        if isinstance(error, OSError) and not isinstance(error, CommClosedError) and runs:
            raise
        if isinstance(error, CancelledError) and runs:
            raise ClusterError(
                f"tasks of this call were cancelled on the Dask cluster {address}, as client.restart() and "
                f"client.cancel() do ({type(error).__name__}: {error}); make the call again"
            ) from error
        raise lost_scheduler(client, address, error) from error


IN_VAIN = 3
"""Attempts in a row that may end with the deaths of workers before anything is finished between them."""


class Patience:
    """A limit on attempts without progress; of deaths there may be any number."""

    def __init__(self) -> None:
        self._in_vain = 0

    def progressed(self) -> None:
        """Something was finished."""
        self._in_vain = 0

    def died(self, future: Future, refs: Sequence[ChunkRef]) -> None:
        """Workers died of some chunks that they had alone, or beside them.

        Raises
        ------
        WorkerLostError : again and again, and nothing else was finished meanwhile
        """
        self._in_vain += 1
        if self._in_vain >= IN_VAIN:
            result_of(future, refs)


def died_with_worker(future: Future) -> bool:
    """Whether Dask gave a task up since its workers died."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


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
