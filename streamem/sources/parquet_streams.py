"""The decoders that the parts of one plan share in a process."""

from __future__ import annotations

import os
from threading import Condition, RLock, get_ident
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.fs as pafs

from streamem.sources.columns import TableLayout
from streamem.sources.parquet_catalogue import RowGroup
from streamem.sources.parquet_stream import GroupStream, RowRange

NEAR = 16
"""Parts: who wants rows so near to what others wait for waits with them, anyone else opens a stream of his own."""


class GroupStreams:
    """The open streams of a plan, gone with its last handle.

    Threads that go through a row group together share one stream; tasks that work on runs of chunks far apart have one
    each. A thread leaves at most one stream open behind it, so there are never more than threads that read.

    Pickled, it is a name: handles that arrive in another process share the streams of that plan there.
    """

    def __init__(self, token: str | None = None) -> None:
        self._token = token or uuid4().hex
        self._changed = Condition()
        self._open: list[_Open] = []
        with _KNOWN_LOCK:
            _KNOWN[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return streams_of, (self._token,)

    def take(
        self, filesystem: pafs.FileSystem, group: RowGroup, layout: TableLayout, part: RowRange
    ) -> list[pa.RecordBatch]:
        """The rows of a part of a row group; see `GroupStream.take`."""
        with self._changed:
            used = self._nearest(group, part)
            if used is None:
                used = _Open(group, GroupStream(filesystem, group, layout, part.step))
                self._open.append(used)
            used.stream.asked.append(part.first)
        try:
            self._await_ends(used)
            return used.stream.take(part)
        finally:
            with self._changed:
                used.stream.asked.remove(part.first)
                used.thread = get_ident()
                self._close_others(used)
                self._changed.notify_all()

    def _await_ends(self, used: _Open) -> None:
        """Wait for streams that are about to end: two long streams at once would take twice the memory."""

        def none_ends() -> bool:
            earlier = self._open[: self._open.index(used)]  # so that two never wait for each other
            return not any(known.is_ending for known in earlier)

        if used.stream.is_long:
            with self._changed:
                self._changed.wait_for(none_ends)

    def _nearest(self, group: RowGroup, part: RowRange) -> _Open | None:
        """The open stream with the least to decode up to this part; None where all are past it or too far off."""
        fitting = [
            known
            for known in self._open
            if known.group == group
            and known.stream.low <= part.first
            and (not known.stream.asked or abs(part.first - max(known.stream.asked)) <= NEAR * part.step)
        ]
        return max(fitting, key=lambda known: known.stream.high, default=None)

    def _close_others(self, used: _Open) -> None:
        mine = [known for known in self._open if known.thread == used.thread and not known.stream.asked]
        for known in mine:
            if known is not used or known.stream.spent:
                self._open.remove(known)
                known.stream.close()


class _Open:
    """A stream, and the thread that used it last."""

    def __init__(self, group: RowGroup, stream: GroupStream) -> None:
        self.group, self.stream = group, stream
        self.thread: int | None = None

    @property
    def is_ending(self) -> bool:
        """Whether somebody is taking the last part."""
        return any(first + self.stream.step >= self.group.rows for first in self.stream.asked)


_KNOWN: WeakValueDictionary[str, GroupStreams] = WeakValueDictionary()
_KNOWN_LOCK = RLock()


def streams_of(token: str) -> GroupStreams:
    """The streams of a plan in this process."""
    with _KNOWN_LOCK:
        known = _KNOWN.get(token)
        return GroupStreams(token) if known is None else known


def _begin_anew() -> None:
    """In a forked child: streams belong to the threads of the parent, and one of these may have held the lock."""
    global _KNOWN_LOCK
    _KNOWN_LOCK = RLock()
    _KNOWN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
