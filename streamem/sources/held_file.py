"""Parts of a stored file in memory, read as a file."""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a file.

    Attributes
    ----------
    starts, contents : where the parts begin, in order, and their bytes
    """

    starts: tuple[int, ...]
    contents: tuple[bytes | memoryview, ...]


class PlacedFile(io.RawIOBase):
    """A file of which some parts can be read: subclasses say what lies where."""

    def __init__(self, end: int) -> None:
        self._at, self._end = 0, end

    def readable(self) -> bool:
        """A file that is read."""
        return True

    def seekable(self) -> bool:
        """At any place."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; the file ends with its last part."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        return self._at


class PartsFile(PlacedFile):
    """A file of which only some parts can be read, which are in memory."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.starts[-1] + len(parts.contents[-1]))
        self._parts = parts

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from here on; fewer where the part ends, as at the end of a file.

        Raises
        ------
        OSError : no part begins here or before
        """
        number = bisect_right(self._parts.starts, self._at) - 1
        if number < 0 or size is None or size < 0:
            raise OSError(f"bytes from {self._at} on are not in memory")
        found = bytes(self._within(number, size))
        while len(found) < size and (number := number + 1) < len(self._parts.starts):
            if self._parts.starts[number] != self._at:
                break
            found += self._within(number, size - len(found))  # parts that adjoin are one
        return found

    def _within(self, number: int, size: int) -> bytes | memoryview:
        first = self._at - self._parts.starts[number]
        found = self._parts.contents[number][first : first + size]
        self._at += len(found)
        return found
