"""The end of a process after so many passes, for tests of what goes on from a checkpoint."""

from __future__ import annotations

from typing import Any


class Stop(Exception):
    """The end of a process."""


def stops_after(passes: int) -> Any:
    """What looks for changes of the data at the end of each pass, and ends the process after so many."""
    left = [passes]

    def look(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stop

    return look
