"""Followers of a model that learns: callbacks, the latest updates, and what a call of `fit_stream` shares."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamem.online.updates import Update
from streamem.online.watching import Watched

REMEMBERED = 10_000
"""Updates that `history_` holds."""

Callback = Callable[[Update], object]


@dataclass(eq=False)
class Followers:
    """What belongs to a process, not to a model: neither copied nor pickled.

    Attributes
    ----------
    callbacks : called after every mini-batch
    updates : the latest ones
    stopping : ends a running `fit_stream`
    watched : the running `fit_stream`, as others may look at it
    unread : a stream that cannot be read again, and what was read of it beyond the last mini-batch
    """

    callbacks: list[Callback] = field(default_factory=list)
    updates: deque[Update] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    stopping: threading.Event | None = None
    unread: tuple[Any, Any] | None = None
    watched: Watched | None = None

    def tell(self, update: Update) -> None:
        """Remember an update, and call back."""
        self.updates.append(update)
        for callback in self.callbacks:
            callback(update)


def followers_of(estimator: Any) -> Followers:
    """The followers of an estimator: callbacks and recent updates."""
    if estimator._followers is None:
        estimator._followers = Followers()
    found: Followers = estimator._followers
    return found
