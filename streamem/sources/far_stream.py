"""A file of a store that is read column by column, onwards only: of each column some blocks are asked for ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from streamem.core.errors import SourceChangedError
from streamem.core.object_requests import Fetched, Piece, begin_fetch
from streamem.sources.held_file import PlacedFile

AHEAD_NBYTES = 2**22
"""Of each column."""

REQUESTS, MOST_BLOCKS = 32, 15
"""At once, of all columns; and of one."""


class AheadFile(PlacedFile):
    """Spans of an object, each of which is read from its beginning to its end, in turns.

    Parameters
    ----------
    store, key, etag : obstore's store of the bucket, the object, and the version of it
    where : names the store in errors
    spans : first and stop byte of each, in order
    """

    def __init__(self, store: Any, key: str, etag: str, where: str, spans: Sequence[tuple[int, int]]) -> None:
        super().__init__(spans[-1][1])
        self._store, self._key, self._etag, self._where = store, key, etag, where
        self._firsts = [first for first, _ in spans]
        self._ahead = max(2, min(MOST_BLOCKS, REQUESTS // len(spans)))
        self._block = -(-AHEAD_NBYTES // (self._ahead + 1))
        self._columns = [_Column(first, stop) for first, stop in spans]

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from here on; fewer at the end of a span.

        Raises
        ------
        OSError : they lie in no span, or before what was read already
        SourceError : the store refuses, or the object is another by now
        """
        number = bisect_right(self._firsts, self._at) - 1
        if number < 0 or size is None or size < 0:
            raise OSError(f"bytes from {self._at} on are in no column")
        column, found = self._columns[number], b""
        while len(found) < size and self._at < column.stop:
            content, first = self._block_at(column)
            piece = content[self._at - first :][: size - len(found)]
            found += piece
            self._at += len(piece)
        return found

    def _block_at(self, column: _Column) -> tuple[bytes | memoryview, int]:
        """The block around the present place, and where it begins; those after it are asked for."""
        number = (self._at - column.first) // self._block
        for gone in [known for known in column.coming if known < number]:
            column.coming.pop(gone).cancel()
        for wanted in range(number, number + 1 + self._ahead):
            first = column.first + wanted * self._block
            if wanted not in column.coming and first < column.stop:
                piece = Piece(self._key, first, min(first + self._block, column.stop), self._etag)
                column.coming[wanted] = begin_fetch(self._store, piece, self._where)
        fetched = column.coming[number].result()
        if fetched is None:
            raise SourceChangedError(f"{self._where}{self._key} is gone; it was there when the data was opened")
        return fetched.content, fetched.first

    def close(self) -> None:
        """Let go of all blocks."""
        for column in self._columns:
            for coming in column.coming.values():
                coming.cancel()
            column.coming.clear()
        super().close()


class _Column:
    """A span, and the blocks of it that are there or on their way, by number."""

    def __init__(self, first: int, stop: int) -> None:
        self.first, self.stop = first, stop
        self.coming: dict[int, Future[Fetched | None]] = {}
