"""Default clients of Dask that ended by themselves: what was meant for a cluster never runs on threads in silence.

A client that loses its scheduler closes after a while, also when nothing runs, and Dask has no default client then, as
if there had never been one.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from streamem.core.errors import ClusterError

REMEDY = (
    "make a new one, or pass executor='threads' to go on in this process: once that was done, later calls go there "
    "by themselves"
)


class LostClients:
    """Which default clients were lost, and whether the user has been told and has chosen threads since."""

    def __init__(self) -> None:
        self._seen: tuple[Any, str] | None = None
        self._broken: list[str] = []
        self._told: weakref.WeakSet[Any] = weakref.WeakSet()
        self._over: weakref.WeakSet[Any] = weakref.WeakSet()

    def active(self, client: Any, distributed: Any) -> None:
        """Note the default client. Those before it are the past; this one is held, so that its end can be seen."""
        if self._seen is None or self._seen[0] is not client:
            self._seen = client, address_of(client)
            self._over.update(each for each in _defaults(distributed) if each.status == "closed")
        self._broken.clear()

    def told(self, client: Any) -> None:
        """Note that the user has got an error about a client."""
        self._told.add(client)

    def broke(self, client: Any) -> None:
        """Note the default client that a call lost in the middle."""
        self.told(client)
        self._broken.append(self._seen[1] if self._seen and self._seen[0] is client else address_of(client))

    def threads_chosen(self) -> None:
        """Threads were asked for by name: by someone who has been told, that is an answer."""
        self._broken.clear()
        self._over.update(self._told)

    def require_none(self, distributed: Any) -> None:
        """There is no default client: that is as it should be, unless one was lost.

        Raises
        ------
        ClusterError : one was lost, and threads have not been chosen since
        """
        if self._broken:
            raise ClusterError(f"the Dask client that was active lost its scheduler {self._broken[-1]}; {REMEDY}")
        for client in set(_defaults(distributed)) - set(self._over):
            if _lost(client):
                self._told.add(client)
                address = f" {self._seen[1]}" if self._seen and self._seen[0] is client else ""
                raise ClusterError(f"the Dask client that was active lost its scheduler{address}; {REMEDY}")
            if _of_a_closed_cluster(client):
                self._over.add(client)
                warnings.warn(
                    "the Dask cluster of the active client was closed: this call and later ones run on threads of this "
                    "process. Close the client too, or make a new one",
                    RuntimeWarning,
                    stacklevel=2,
                )


def address_of(client: Any) -> str:
    """The scheduler of a client, as long as it knows one."""
    return str(client.scheduler.address) if client.scheduler else ""


def _defaults(distributed: Any) -> list[Any]:
    """All clients of this process that were made to be the default, whatever became of them."""
    return [client for client in list(getattr(distributed.Client, "_instances", ())) if client._set_as_default]


def _ended_by_itself(client: Any) -> bool:
    """True for a client that has closed, and not by `Client.close`, which lets go of its event loop."""
    runner = getattr(client, "_loop_runner", None)
    return client.status == "closed" and (client._asynchronous or (runner is not None and runner.is_started()))


def _lost(client: Any) -> bool:
    """True if the scheduler was gone: Dask forgets the connection before it tries again, and closes in the end."""
    return _ended_by_itself(client) and client.scheduler_comm is None


def _of_a_closed_cluster(client: Any) -> bool:
    """True if the cluster object was closed in this process, and the client with it."""
    return _ended_by_itself(client) and not client._asynchronous and client.scheduler_comm is not None
