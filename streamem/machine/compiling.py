"""Says once a process that it is compiling, where that takes longer than a second; imports Numba."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import Any

from streamem.machine.whole_numba import event

logger = logging.getLogger("streamem")

QUIET_S = 1.0
"""So much compilation goes without a word."""

WORDS = (
    "compiling for this processor what no earlier run has left on disk: some seconds, once for a machine "
    "(streamem warm-up does it beforehand, for images of containers and for clusters)"
)


class Announcer(event.Listener):
    """Hears when Numba begins and ends to compile a function; those that it calls are compiled in between."""

    def __init__(self) -> None:
        self.told = False
        self._depth, self._began, self._total = 0, 0.0, 0.0

    def on_start(self, found: Any) -> None:
        """One more function."""
        self._began = self._began if self._depth else monotonic()
        self._depth += 1
        self._tell()

    def on_end(self, found: Any) -> None:
        """One less; Numba's lock lets one thread compile at a time."""
        self._depth -= 1
        self._tell()
        if not self._depth:
            self._total += monotonic() - self._began

    def _tell(self) -> None:
        if self.told or self._total + monotonic() - self._began < QUIET_S:
            return
        self.told = True
        logger.info(WORDS)
        if not logger.hasHandlers() and sys.stderr is not None and sys.stderr.isatty():
            print(WORDS, file=sys.stderr)


def announce() -> None:
    """Listen from now on."""
    event.register("numba:compile", Announcer())
