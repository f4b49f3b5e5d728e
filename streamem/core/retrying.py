"""Requests of stores that fail for a while: made again after a random, growing pause, within a budget, and counted."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from threading import Lock
from time import monotonic, sleep
from typing import TypeVar

Result = TypeVar("Result")

ATTEMPTS, PATIENCE_S = 12, 120.0
"""Of one request: how often it is made, and for how long it is made again."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0125, 5.0

STATUS = re.compile(r"status(?: code)?:? (\d{3})")
PASSING = frozenset({408, 429})
"""Statuses below 500 that may be gone at the next attempt: the others say that the request itself is wrong."""

FINAL = frozenset(
    {"PermissionDeniedError", "UnauthenticatedError", "PreconditionError", "NotSupportedError", "NotModifiedError"}
    | {"InvalidPathError", "AlreadyExistsError", "UnknownConfigurationKeyError"}
)
"""Errors of obstore that no other attempt mends."""


class ShortBodyError(OSError):
    """Fewer bytes came than were asked for."""


class _Retried:
    """How many requests this process has made again, since somebody asked last."""

    def __init__(self) -> None:
        self._number, self._lock = 0, Lock()

    def add(self) -> None:
        """Count one."""
        with self._lock:
            self._number += 1

    def take(self) -> int:
        """What was counted since the last call; who asks reports it."""
        if not self._number:
            return 0
        with self._lock:
            found, self._number = self._number, 0
        return found


RETRIED = _Retried()
_JITTER = random.Random()  # nothing but pauses depends on it


def is_passing(error: BaseException) -> bool:
    """Whether what a store answered, or that it did not, may be gone at the next attempt."""
    if type(error).__name__ in FINAL:
        return False
    status = getattr(error, "status", None)  # of HTTP clients below fsspec's file systems
    if (told := STATUS.search(str(error))) is not None:
        status = int(told[1])
    if isinstance(status, int):
        return status >= 500 or status in PASSING
    return isinstance(error, ConnectionError | TimeoutError | ShortBodyError) or type(error).__name__ == "GenericError"


def patiently(call: Callable[[], Result]) -> Result:
    """What a request returns, made again while its errors are passing ones.

    Raises
    ------
    the last error, once it is final or the budget is spent
    """
    pauses = pauses_of_a_request()
    while True:
        try:
            return call()
        except Exception as error:
            wait_after(error, pauses)


async def patiently_awaited(call: Callable[[], Awaitable[Result]]) -> Result:
    """What a request returns, as `patiently`."""
    pauses = pauses_of_a_request()
    while True:
        try:
            return await call()
        except Exception as error:
            pause = _pause_after(error, pauses)
        await asyncio.sleep(pause)


def wait_after(error: Exception, pauses: Iterator[float]) -> None:
    """Wait before the next attempt; raise the error if there is none."""
    sleep(_pause_after(error, pauses))


def _pause_after(error: Exception, pauses: Iterator[float]) -> float:
    """The pause before the next attempt; the error itself if there is none."""
    pause = next(pauses, None) if is_passing(error) else None
    if pause is None:
        raise error
    RETRIED.add()
    return pause


def pauses_of_a_request() -> Iterator[float]:
    """Pauses with full jitter: clients that failed together do not come back together."""
    end = monotonic() + PATIENCE_S
    for attempt in range(1, ATTEMPTS):
        if monotonic() >= end:
            return
        yield _JITTER.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
