"""One partition of a Kafka topic: how far it was read, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from streamem.core.message import Message

QUANTUM = 100
"""Offsets that are read of a partition before it is the turn of the next."""

MESSAGE_BYTES = 500
"""What a waiting message weighs besides its value."""


class Lane:
    """A partition: how far it was read, and messages that wait for their turn.

    Parameters
    ----------
    partition, saved : its number, and its position if there is one
    topic : id of the topic, where the cluster tells
    """

    def __init__(self, partition: int, saved: Mapping[str, Any] | None = None, topic: str | None = None) -> None:
        self.partition = partition
        known = topic or (saved or {}).get("topic")
        self._mark = {} if known is None else {"topic": known}
        self.offset = saved["offset"] if saved else None  # next to deliver
        self.base = saved["base"] if saved else None
        self.start = self.offset  # where the broker was asked to start
        self.reread = -1 if self.offset is None else self.offset  # where a member after this one would start
        self._first = self.reread
        self.waiting: deque[Any] = deque()
        self.nbytes, self.fetched = 0, -1
        self.at_end = self.given_up = self.paused = False
        self._passed = (0, 0)  # from, to: no message is between these offsets
        self._held: tuple[int, int] | None = None

    def begin(self, offset: int) -> None:
        """Go on at a later offset, as if the messages between had never been."""
        self.base = offset if self.offset is None or self.base is None else self.base + offset - self.offset
        self.offset = offset

    def assigned(self, committed: int) -> None:
        """Come to this member while its group has this offset, negative if none.

        What this member read before, and could not commit while partitions changed hands, is still to be committed.
        """
        if committed > (-1 if self.offset is None else self.offset):
            self.begin(committed)
        own = self.offset is not None and self.offset > max(self._first, committed)
        self.reread = max(committed, -1) if own else (-1 if self.offset is None else self.offset)
        if not own:
            self._first = self.reread

    def drop(self) -> None:
        """Forget what waits: it is fetched again."""
        self.waiting.clear()
        self.nbytes, self.fetched = 0, -1
        self.at_end = self.given_up = self.paused = False

    def put(self, message: Any) -> None:
        """Take what was fetched."""
        if message.offset() < self.fetched:
            return  # a leftover from before a pause
        if self.base is None:
            self.base = message.offset()
        self.waiting.append(message)
        self.fetched = message.offset() + 1
        self.nbytes += nbytes_of(message)
        self.at_end = self.given_up = False

    def take(self) -> Message:
        """The oldest message that waits; without a payload if it is a tombstone (its value is null)."""
        message = self.waiting.popleft()
        self.nbytes -= nbytes_of(message)
        at = {"offset": message.offset(), "base": self.base, **self._mark}
        self.offset = message.offset() + 1
        after = at | {"offset": self.offset}
        return Message(message.value(), str(self.partition), at, after, tuple(message.headers() or ()))

    def end(self, offset: int) -> None:
        """Take note that everything before an offset, where the partition ends now, was fetched."""
        self.at_end, self.given_up = True, False
        first = self.fetched if self.fetched >= 0 else self.offset
        self._passed = (0 if first is None else first, offset)

    @property
    def high(self) -> int:
        """The offset behind the last message that the partition holds, as far as was heard; -1 if nothing was."""
        return -1 if self._held is None else self._held[1]

    def hear(self, low: int, high: int) -> None:
        """Take note of what the partition holds; negative numbers say that this is not known."""
        if high >= 0:
            self._held = max(0, low), high

    def lag(self, offset: int) -> int | None:
        """Messages from an offset on, None if nobody knows; records of aborted transactions at the end do not count."""
        if self._held is None:
            return None
        (low, high), (first, stop) = self._held, self._passed
        return max(0, high - max(low, max(offset, stop) if offset >= first else offset))

    def turn(self) -> tuple[int, int]:
        """Sort key: the partition with the least key is next; without a message, the least that may still come."""
        offset = self.waiting[0].offset() if self.waiting else self.offset
        read = 0 if offset is None or self.base is None else offset - self.base
        return read // QUANTUM, self.partition


def nbytes_of(message: Any) -> int:
    """About how many bytes a waiting message has."""
    return MESSAGE_BYTES + len(message.value() or b"")
