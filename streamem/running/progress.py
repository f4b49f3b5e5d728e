"""Progress: a tqdm bar on a terminal or in a notebook, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from streamem.core.ports import ChunkDone, ChunkRef
from streamem.core.state import State
from streamem.machine.importing import uninterrupted

logger = logging.getLogger("streamem")

LOG_INTERVAL_S = 5.0
QUIET_S = 2.0
"""A pass shorter than this shows no bar unless the user asked for one."""


class Progress:
    """The observer that shows how far a pass is.

    Parameters
    ----------
    what : the words before the bar
    verbose : 0 shows passes that last longer than two seconds, 1 and more shows every pass
    pass_rows : rows of a pass, which may be several windows
    arithmetic : says which one the last pass ran, "" for none
    retried : told of every chunk how many requests were made again
    """

    def __init__(
        self,
        what: str,
        verbose: int = 0,
        pass_rows: int = 0,
        arithmetic: Callable[[], str] = str,
        retried: Callable[[int], object] = int,
    ) -> None:
        self._arithmetic, self._retried = arithmetic, retried
        self._what = what
        self._verbose = verbose
        self._pass_rows, self._within = pass_rows, False
        self._bar: Any = None
        self._rows = self._total = self._passes = 0
        self._logged = monotonic()

    def window_started(self, state: State, window: Sequence[ChunkRef]) -> None:
        """Open the bar of a pass."""
        if not self._within:
            self._within = True
            self._passes += 1
            self.begin(self._pass_rows, f"{self._what}, pass {self._passes}")

    def begin(self, rows: int, label: str) -> None:
        """Open a bar over `rows` rows."""
        self._rows, self._total, self._label = 0, rows, label
        if _interactive():
            with uninterrupted("tqdm.auto"):
                from tqdm.auto import tqdm

            delay = 0.0 if self._verbose else QUIET_S
            self._bar = tqdm(total=rows, desc=label, unit="row", unit_scale=True, leave=False, delay=delay)

    def chunk_done(self, done: ChunkDone) -> None:
        """Move on."""
        self._rows += done.rows
        if done.retried:
            self._retried(done.retried)
        if self._bar is not None:
            self._bar.update(done.rows)
        elif monotonic() - self._logged > LOG_INTERVAL_S:
            self._say(f"{self._label}: {self._rows:,} of {self._total:,} rows")

    def end(self) -> None:
        """Close the bar."""
        self._within = False
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def window_ended(self, before: State, after: State, pass_over: bool) -> None:
        """Close the bar and log the pass."""
        if not pass_over:
            return
        self.end()
        value = after.last_known
        state = (
            "final" if after.finished else "converged" if after.converged else "last" if after.closing else "going on"
        )
        by = f" by {arithmetic}" if (arithmetic := self._arithmetic()) else ""
        text = f"{self._what}, pass {self._passes}: log-likelihood {value:.9g} per row{by}, {state}"
        if self._verbose or monotonic() - self._logged > LOG_INTERVAL_S:
            self._say(text)
        else:
            logger.debug(text)

    def _say(self, text: str) -> None:
        self._logged = monotonic()
        if self._verbose and not logger.isEnabledFor(logging.INFO):
            print(text, file=sys.stderr)  # asked for, where nobody listens to the log
        else:
            logger.info(text)


def _interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules
