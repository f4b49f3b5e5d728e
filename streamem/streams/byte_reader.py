"""Reading bytes of a pipe, file or socket one after the other, knowing how many were read."""

from __future__ import annotations

from typing import Any

STEP_BYTES = 2**24
"""Asked for at once: a length that lies allocates no more than comes, and this."""


class ByteReader:
    """A binary file that is read forwards only.

    Parameters
    ----------
    raw : anything with ``read(n)`` and ``readline(n)``

    Attributes
    ----------
    offset : bytes that were read
    """

    closed = False

    def __init__(self, raw: Any) -> None:
        self._raw, self._ahead = raw, b""
        self.offset = 0

    def peek(self, nbytes: int) -> bytes:
        """The next bytes, fewer at the end only, which are still to be read."""
        if len(self._ahead) < nbytes:
            self._ahead += self._take(nbytes - len(self._ahead))
        return self._ahead[:nbytes]

    def read(self, nbytes: int = -1) -> bytes:
        """Read `size` bytes, fewer at the end only."""
        found, self._ahead = self._ahead[:nbytes], self._ahead[nbytes:]
        if len(found) < nbytes:
            found = found + self._take(nbytes - len(found)) if found else self._take(nbytes)
        self.offset += len(found)
        return found

    def readline(self, nbytes: int) -> bytes:
        """Read a line with its end, or at most `size` bytes of it."""
        if not self._ahead:
            line: bytes = self._raw.readline(nbytes)
        else:
            line = self._ahead[: self._ahead.find(b"\n") + 1 or len(self._ahead)][:nbytes]
            self._ahead = self._ahead[len(line) :]
            if not line.endswith(b"\n") and len(line) < nbytes:
                line += self._raw.readline(nbytes - len(line))
        self.offset += len(line)
        return line

    def peek_line(self, nbytes: int) -> bytes:
        """The next line, which is still to be read."""
        before = self.offset
        line = self.readline(nbytes)
        self._ahead, self.offset = line + self._ahead, before
        return line

    def close(self) -> None:
        """Do nothing: the code that opened the file closes it."""

    def _take(self, nbytes: int) -> bytes:
        parts: list[bytes] = []
        while nbytes > 0 and (part := self._raw.read(min(nbytes, STEP_BYTES))):
            parts.append(part)
            nbytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
