"""The right of one process to write a result of many objects: an object beside it, made only if there is none."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from time import monotonic, time
from typing import Any

from streamem.core.addresses import Address
from streamem.core.errors import OutputError, SourceError, WriterConflictError
from streamem.core.stored_objects import delete, etag_of, get, put_after

SUFFIX = ".streamem-writer"
LIFE_S, RENEWED_S = 900.0, 60.0
"""After which nobody is believed to write any more; and how often who writes says that he does."""


class ObjectClaim:
    """A claim on an address; nobody else has one at the same time.

    What a killed process of this machine has left counts for nothing, and what one of another machine left, after a
    quarter of an hour.

    Raises
    ------
    OutputError : another process writes there
    """

    def __init__(self, address: Address) -> None:
        self._address, self._place = address, address.at(address.text.rstrip("/") + SUFFIX)
        self._etag: str | None = None
        self._renewed = monotonic()
        try:
            self._etag = self._write(self._left())
        except WriterConflictError:
            raise self._taken(_read(get(self._place))) from None

    def renew(self) -> None:
        """Say that the writing goes on; called at any time, it asks the store once a minute.

        Raises
        ------
        OutputError : another process has taken it for dead
        """
        if monotonic() - self._renewed < RENEWED_S:
            return
        self._renewed = monotonic()
        try:
            self._etag = self._write(self._etag)
        except WriterConflictError:
            raise self._taken(_read(get(self._place))) from None

    def release(self) -> None:
        """Let others write."""
        with suppress(OutputError):
            delete(self._place)

    def _write(self, before: str | None) -> str | None:
        told = {"host": socket.gethostname(), "pid": os.getpid(), "time": time()}
        return put_after(self._place, json.dumps(told).encode(), before)

    def _left(self) -> str | None:
        """The ETag of a claim that counts for nothing; None if there is none."""
        etag = etag_of(self._place)
        if etag is None:
            return None
        told = _read(get(self._place))
        if told["host"] == socket.gethostname() and not _lives(told["pid"]):
            return etag
        if time() - told["time"] > LIFE_S:
            return etag
        raise self._taken(told)

    def _taken(self, told: dict[str, Any]) -> OutputError:
        return OutputError(
            f"{self._address}: process {told['pid']} on {told['host']} is writing there; wait for its end, or choose "
            f"another name. If it was killed, its claim ends {LIFE_S / 60:.0f} minutes after it last wrote, or once "
            f"you delete {self._place}"
        )


def _read(content: bytes | None) -> dict[str, Any]:
    """What a claim says; of one that nobody can read, that it is old."""
    try:
        told = json.loads(content or b"{}")
        return {"host": str(told["host"]), "pid": int(told["pid"]), "time": float(told["time"])}
    except (ValueError, KeyError, TypeError, SourceError):
        return {"host": "", "pid": 0, "time": 0.0}


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
