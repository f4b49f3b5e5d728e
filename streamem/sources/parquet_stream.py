"""One pass of a decoder over a large row group, from which any thread may take any rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from streamem.core.errors import SourceError
from streamem.sources.columns import TableLayout
from streamem.sources.parquet_catalogue import RowGroup
from streamem.sources.parquet_far import is_asked_by_version, opened_ahead
from streamem.sources.parquet_footers import SOUND_PAGES, identity_of, open_file
from streamem.sources.parquet_reading import batches_of, describe

BUFFER_NBYTES, FAR_BUFFER_NBYTES = 2**18, 2**22
"""Of every column that is read at a time, from a disk (a megabyte took as long and 20 MiB more for 32 columns) and from
a store that answers late."""

LEAST_BATCH_NBYTES = 2**15
"""Smaller batches cost more than their rows."""

LONG = 8
"""Parts from which on it pays to spare memory with time: to wait for another's end, to give memory back."""

BEHIND = 2
"""Parts behind the latest that are kept for readers who were overtaken before they could say what they want."""


@dataclass(frozen=True)
class RowRange:
    """Rows first … first + rows − 1 of a row group that is cut into parts of `step` rows, the last perhaps shorter."""

    first: int
    rows: int
    step: int


def buffer_nbytes(filesystem: pafs.FileSystem) -> int:
    """Bytes of a column that are read at a time."""
    near = getattr(filesystem, "base_fs", filesystem).type_name == "local"
    return BUFFER_NBYTES if near else FAR_BUFFER_NBYTES


class GroupStream:
    """A row group in parts of `step` rows.

    Taken in order by any number of threads, each row is decoded once: who is first decodes for those who wait. Rows
    that lie behind what is still held are decoded again from the beginning of the row group. After an error the next
    call begins anew.

    Attributes
    ----------
    step : rows of a part
    asked : first rows of what threads want or wait for; kept by the owner of the stream, so that these rows stay
    low, high : the rows that are held now
    """

    def __init__(self, filesystem: pafs.FileSystem, group: RowGroup, layout: TableLayout, step: int) -> None:
        self._filesystem, self._group, self._layout, self.step = filesystem, group, layout, step
        self._lock = Lock()
        self._file: ExitStack | None = None
        self._identity: tuple[Any, ...] | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._held: deque[tuple[int, pa.RecordBatch]] = deque()
        self._given: set[int] = set()
        self.asked: list[int] = []
        self.low = self.high = 0

    @property
    def is_long(self) -> bool:
        """Whether there are so many parts that opening and closing hardly count."""
        return self._group.rows > LONG * self.step

    @property
    def spent(self) -> bool:
        """Whether every part has been taken once."""
        return len(self._given) * self.step >= self._group.rows

    def take(self, part: RowRange) -> list[pa.RecordBatch]:
        """The rows of a part, in batches, without partition keys.

        Raises
        ------
        SourceChangedError, SourceError : the file was rewritten, is truncated or damaged
        """
        first, stop = part.first, part.first + part.rows
        with self._lock:
            try:
                if first < self.low or not self._is_open_on_the_same_file():
                    self._open()
                while self.high < stop:
                    self._decode(first)
            except BaseException:
                self._let_go()
                raise
            self._given.add(first)
            return list(self._between(first, stop))

    def close(self) -> None:
        """Let go of the file and of all rows; nobody must be taking any."""
        with self._lock:
            self._let_go()

    def _is_open_on_the_same_file(self) -> bool:
        return self._identity is not None and self._identity == self._present()

    def _present(self) -> tuple[Any, ...]:
        """What changes when the file is rewritten."""
        if is_asked_by_version(self._filesystem, self._group):
            return (self._group.etag,)
        return identity_of(self._filesystem, self._group.path)

    def _open(self) -> None:
        self._let_go()
        self._identity = self._present()
        self._file = ExitStack()
        if is_asked_by_version(self._filesystem, self._group):
            opened = opened_ahead(self._filesystem, self._group, self._layout)
        else:
            opened = open_file(self._filesystem, self._group.path, buffer_nbytes(self._filesystem))
        file = self._file.enter_context(opened)
        names = self._group.stored_names(self._layout.names)
        SOUND_PAGES.require(self._filesystem, self._group.path, file, self._group.number, names)
        least = LEAST_BATCH_NBYTES // self._layout.stored_row_nbytes
        self._batches = batches_of(file, self._group, self._layout, max(least, self.step))

    def _decode(self, first: int) -> None:
        batch: Any = next(self._batches, None)
        if batch is None:
            raise SourceError(f"{describe(self._group)} ends after {self.high} of {self._group.rows} rows")
        self._held.append((self.high, batch))
        self.high += batch.num_rows
        if self.high >= self._group.rows:
            self._close_file()
        self._forget(min([first, *self.asked]) - BEHIND * self.step)

    def _forget(self, before: int) -> None:
        while self._held and self._held[0][0] + self._held[0][1].num_rows <= before:
            self._held.popleft()
        self.low = self._held[0][0] if self._held else self.high

    def _between(self, first: int, stop: int) -> Iterator[pa.RecordBatch]:
        for start, batch in self._held:
            begin, end = max(first, start), min(stop, start + batch.num_rows)
            if begin < end:
                yield batch.slice(begin - start, end - begin)

    def _close_file(self) -> None:
        if self._file is None:
            return
        self._batches = iter(())
        self._file.close()
        self._file = None
        if self.is_long:  # else the pages of the next one come on top of these: 40 MiB and more
            pa.default_memory_pool().release_unused()

    def _let_go(self) -> None:
        self._close_file()
        self._held.clear()
        self._given.clear()
        self._identity, self.low, self.high = None, 0, 0
