"""A server that is away: waited for, longer each time, until patience ends."""

from __future__ import annotations

import logging
import time

from streamem.core.errors import StreamError
from streamem.core.redaction import presentable

logger = logging.getLogger("streamem")

START_S = 10.0
"""For which a server may be away before it was reached once."""
FIRST_DELAY_S, MOST_DELAY_S = 0.05, 1.0


class Outage:
    """Waits, longer each time, until patience ends.

    Parameters
    ----------
    name : of the stream, which messages begin with
    what : what is missing, such as "no Redis server at host:6379"
    patience_s : for how long the server may be away
    start_s : for how long before it was reached once, if that is less
    """

    def __init__(self, name: str, what: str, patience_s: float, start_s: float = START_S) -> None:
        self._name, self._what, self._most_s = name, what, patience_s
        self._patience_s = min(patience_s, start_s)
        self._since: float | None = None
        self._delay_s = FIRST_DELAY_S

    def goes_on(self, error: Exception) -> None:
        """Wait a little; raises StreamError when patience is over."""
        now = time.monotonic()
        told = str(error) or type(error).__name__
        if self._since is None:
            self._since = now
            logger.warning("%s: %s; trying again for %g s", self._name, told, self._patience_s)
        if now - self._since >= self._patience_s:
            raise StreamError(
                f"{self._name}: {self._what} for {self._patience_s:g} s ({told}); check the address and the server, or "
                "give it more time with patience_s="
            ) from presentable(error)
        time.sleep(min(self._delay_s, self._patience_s))
        self._delay_s = min(2 * self._delay_s, MOST_DELAY_S)

    def over(self) -> None:
        """Note that the server answered: an outage is over."""
        if self._since is not None:
            logger.info("%s: is there again", self._name)
        self._since, self._delay_s, self._patience_s = None, FIRST_DELAY_S, self._most_s
