"""A connection to a Dask scheduler that is gone, in our words; it imports nothing of Dask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamem.core.errors import SchedulerLostError, StreamemError


def lost_scheduler(client: Any, address: str, error: BaseException) -> SchedulerLostError:
    """What to raise where a client does not answer any more."""
    how = "client was closed" if client.status in ("closing", "closed") else "scheduler was lost"
    where = f" ({address})" if address else ""
    return SchedulerLostError(
        f"the Dask {how}{where}: {type(error).__name__}: {error}. What its cluster held is gone; a fit with "
        "checkpoint='run.npz' goes on from its last complete iteration when the same call is made with another client"
    )


@contextmanager
def answering(client: Any) -> Iterator[None]:
    """A context around a question to the scheduler.

    Raises
    ------
    SchedulerLostError : it does not answer any more
    """
    address = str(client.scheduler.address) if client.scheduler else ""
    try:
        yield
    except (OSError, RuntimeError, AttributeError, KeyError) as error:  # a client that is closing knows no scheduler
        if isinstance(error, StreamemError) or (client.status == "running" and not isinstance(error, OSError)):
            raise
        raise lost_scheduler(client, address, error) from error
