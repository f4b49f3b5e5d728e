"""Arrow streams in stores that grow: dead letters and histories, each line once, across crashes.

No object can be appended to. What a file would hold is cut into parts (`core/appended_parts.py`), and the latest part
is written again as a whole at each save, until it is large enough that another one begins. Each write asks for what the
last one left, so a second writer is noticed before anything is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamem.core.addresses import Address
from streamem.core.appended_parts import batches_of, part_of, starts_of
from streamem.core.errors import OutputError, SourceError, WriterConflictError
from streamem.core.stored_objects import copy, delete, etag_of, get, put_after, size_of

PART_NBYTES, PIECE_NBYTES = 2**20, 2**22
"""Beyond which another part begins; and about as large as one record batch becomes at most."""


class StoredStream:
    """An Arrow stream in a store to which record batches are appended; what was saved is readable at any time.

    Parameters
    ----------
    address : below which the parts lie
    schema : of its record batches
    nbytes : its length when the state that is gone on from was saved; what came after is removed, because it will come
        again. None keeps all.
    limit : most bytes that it may grow to, or None

    Raises
    ------
    OutputError : the store refuses, or holds something else there
    """

    def __init__(
        self, address: Address, schema: pa.Schema, nbytes: int | None = None, limit: int | None = None
    ) -> None:
        self.path, self._schema, self._limit = address, schema, limit
        self._header = schema.serialize().to_pybytes()
        self._start, self._content, self._written = 0, bytearray(self._header), 0
        self._etag: str | None = None
        self._complete: list[tuple[Address, str | None]] = []
        self._lost = False
        try:
            self._begin(nbytes)
        except SourceError as error:
            raise OutputError(f"cannot go on with {address}: {error}") from error

    def append(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows, which are written at the next `sync`, or when there are many.

        Raises
        ------
        OutputError : the parts would grow beyond their limit, or cannot be written
        WriterConflictError : another process writes them
        """
        pieces = [piece.serialize() for piece in _pieces(pa.RecordBatch.from_pydict(dict(columns), self._schema))]
        more = sum(piece.size for piece in pieces)
        if self._limit is not None and self.length + more > self._limit:
            raise OutputError(
                f"{self.path} holds {self.length} bytes, and {more} more would exceed its limit of {self._limit}; see "
                "what it holds (streamem.appending.read_appended). Name another address, or raise the limit "
                "(dead_letter_limit of fit_stream): the call goes on where it was, and nothing is lost"
            )
        for piece in pieces:
            if len(self._content) - len(self._header) >= PART_NBYTES:
                self._write()
                self._complete.append((part_of(self.path, self._start), self._etag))
                self._start, self._content, self._written = self.length, bytearray(self._header), 0
                self._etag = None
            self._content += piece.to_pybytes()

    @property
    def length(self) -> int:
        """Bytes of record batches so far."""
        return self._start + len(self._content) - len(self._header)

    def sync(self) -> None:
        """Write what was appended.

        Raises
        ------
        WriterConflictError : another process writes the parts
        OutputError : the store refuses
        """
        for part, etag in self._complete:  # who goes on from an earlier save removes them
            if etag_of(part) != etag:
                self._lost = True
                raise _conflict(part)
        self._write()
        self._complete = []

    def close(self) -> None:
        """Write what was appended, whether it was saved or not: those who look for the reason of an error see it."""
        self._write()

    def _write(self) -> None:
        if self._lost or self._written == len(self._content):
            return
        try:
            self._etag = put_after(part_of(self.path, self._start), bytes(self._content), self._etag)
        except WriterConflictError:
            self._lost = True
            raise
        self._written = len(self._content)

    def _begin(self, nbytes: int | None) -> None:
        if size_of(self.path) is not None:
            raise OutputError(f"{self.path} is an object; name a place below which there is none")
        starts = starts_of(self.path)
        if not starts:
            if nbytes:
                raise OutputError(
                    f"{self.path} held {nbytes} bytes when the model was saved, and is empty or gone now: restore it, "
                    "or name another address"
                )
            self._write()
            return
        beyond = [] if nbytes is None else [start for start in starts[1:] if start >= nbytes]
        for start in reversed(beyond):
            delete(part_of(self.path, start))
        self._start = starts[len(starts) - len(beyond) - 1]
        self._go_on(nbytes)

    def _go_on(self, nbytes: int | None) -> None:
        """Take the last part that counts as the one that grows, up to its last batch that counts."""
        part = part_of(self.path, self._start)
        self._etag = etag_of(part)
        content = get(part) or b""
        schema, batches = batches_of(content, part)
        if schema != self._schema:
            raise OutputError(f"{part} is another Arrow stream, with the columns {schema.names}; name another address")
        end = self._start
        for _, length in batches:
            if nbytes is not None and self._start + length > nbytes:
                break
            end = self._start + length
        if nbytes is not None and end != nbytes:
            raise OutputError(
                f"{self.path} held {nbytes} bytes when the model was saved, and {end} of them now: it was changed; "
                "restore it, or name another address"
            )
        self._written = len(content)
        self._content = bytearray(content[: len(self._header) + end - self._start])
        self._write()


def set_parts_aside(address: Address) -> Address | None:
    """Move all parts to another address, which is returned; None if there are none.

    Raises
    ------
    OutputError : the store refuses
    """
    starts = starts_of(address)
    if not starts:
        return None
    number = 1
    while starts_of(aside := address.at(f"{address.text.rstrip('/')}.{number}")):
        number += 1
    for start in starts:
        copy(part_of(address, start), part_of(aside, start))
    for start in reversed(starts):
        delete(part_of(address, start))
    return aside


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A record batch, in halves as long as it is large and has several rows."""
    if batch.num_rows < 2 or pa.ipc.get_record_batch_size(batch) <= PIECE_NBYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _conflict(part: Address) -> WriterConflictError:
    return WriterConflictError(
        f"{part} was removed or written by another process: two processes learn the same model. What this one has "
        "learned since its last save is not saved; stop one of them, and start again"
    )
