"""Rows that only flow: a function that starts a new reader for every pass."""

from __future__ import annotations

import hashlib
import threading
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError, SourceChangedError, SourceError, StreamemError
from streamem.core.ports import ChunkRef, Source
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.options import ReadOptions
from streamem.sources.plan import group_pieces

KEPT_CHUNKS = 64
AGAIN = "the function must return a new reader of the same rows, in the same record batches, at every call"


def start_reader(factory: Callable[[], Any], origin: str) -> pa.RecordBatchReader:
    """A new reader from the user's function.

    Raises
    ------
    SourceError : the function failed
    ParameterError : it returned something that is no Arrow stream
    """
    try:
        made = factory()
    except Exception as error:
        raise SourceError(f"{origin} could not be started: {type(error).__name__}: {error}") from error
    if isinstance(made, pa.RecordBatchReader):
        return made
    if not hasattr(made, "__arrow_c_stream__"):
        raise ParameterError(f"{origin} gave {type(made).__name__}; a pyarrow.RecordBatchReader is needed")
    return pa.RecordBatchReader.from_stream(made)


def _next(reader: pa.RecordBatchReader, origin: str) -> pa.RecordBatch | None:
    """The next record batch, or None at the end."""
    try:
        batch = reader.read_next_batch()
        batch.validate()  # columns that are read are looked at in full, see `_sound`
        return batch
    except StopIteration:
        return None
    except StreamemError:
        raise
    except Exception as error:
        raise SourceError(f"{origin} failed while it was read: {type(error).__name__}: {error}") from error


def _sound(batch: pa.RecordBatch, origin: str) -> pa.RecordBatch:
    """A record batch whose every value lies where it claims to lie: whatever wrote it may have lied."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{origin} gave a damaged record batch: {error}") from error
    return batch


class Cursor:
    """Where a shared reader stands; hands out the record batches of any chunk.

    Threads ask for chunks nearly in order: one that is passed over is kept until it is asked for (the latest
    `KEPT_CHUNKS`, whoever asks for an older one starts a new reader).
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        groups: tuple[tuple[int, ...], ...],
        layout: TableLayout,
        origin: str,
        token: str,
    ) -> None:
        self._made_of = (factory, groups, layout, origin, token)
        self._factory, self._groups, self._layout, self._origin = factory, groups, layout, origin
        self._lock = threading.Lock()
        self._reader: pa.RecordBatchReader | None = None
        self._position = 0
        self._kept: dict[int, list[pa.RecordBatch]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, self._made_of

    def take(self, index: int) -> list[pa.RecordBatch]:
        """The record batches of a chunk, reduced to the columns that are read."""
        with self._lock:
            if index in self._kept:
                return self._kept.pop(index)
            try:
                return self._advance(index)
            except BaseException:
                self._reader = None
                raise

    def _advance(self, index: int) -> list[pa.RecordBatch]:
        if self._reader is None or index < self._position:
            self._reader, self._position = start_reader(self._factory, self._origin), 0
            self._kept.clear()
        while self._position < index:
            passed = self._position
            self._kept[passed] = self._read_group(self._reader)
            self._kept.pop(passed - KEPT_CHUNKS, None)
        return self._read_group(self._reader)

    def _read_group(self, reader: pa.RecordBatchReader) -> list[pa.RecordBatch]:
        batches = [self._read_batch(reader, rows) for rows in self._groups[self._position]]
        self._position += 1
        if self._position == len(self._groups):
            self._finish(reader)
        return batches

    def _read_batch(self, reader: pa.RecordBatchReader, rows: int) -> pa.RecordBatch:
        batch = _next(reader, self._origin)
        if batch is None or batch.num_rows != rows:
            found = "the end came" if batch is None else f"a record batch of {batch.num_rows} rows came"
            raise SourceChangedError(f"{self._origin}: {found} where {rows} rows were expected; {AGAIN}")
        return _sound(batch.select(self._layout.names), self._origin)

    def _finish(self, reader: pa.RecordBatchReader) -> None:
        self._reader = None
        while (batch := _next(reader, self._origin)) is not None:
            if batch.num_rows:
                raise SourceChangedError(f"{self._origin}: {batch.num_rows} rows came after the expected end; {AGAIN}")
        reader.close()


_ALIVE: weakref.WeakValueDictionary[str, Cursor] = weakref.WeakValueDictionary()


def _shared(
    factory: Callable[[], Any], groups: tuple[tuple[int, ...], ...], layout: TableLayout, origin: str, token: str
) -> Cursor:
    """The cursor of this process: handles that travelled one by one still share a reader."""
    return _ALIVE.setdefault(token, Cursor(factory, groups, layout, origin, token))


@dataclass(frozen=True)
class Checksums:
    """Checksums of the record batches of a chunk, as they were while planning.

    Attributes
    ----------
    batches : rows, and the checksum of their values, of each
    origin, remedy : the stream, and what gives its rows one order, in words
    """

    batches: tuple[tuple[int, int], ...]
    origin: str
    remedy: str

    def require(self, chunk: Chunk, place: str) -> None:
        """Raise `SourceChangedError` unless a chunk holds the values that it held while planning."""
        start = 0
        for rows, checksum in self.batches:
            stop = start + rows
            weight = None if chunk.weight is None else chunk.weight[start:stop]
            if _checksum(Chunk(chunk.x[start:stop], weight)) != checksum:
                raise SourceChangedError(
                    f"{self.origin}: {place} does not hold the values that it held while its rows were counted; every "
                    f"pass needs the same rows in the same order: {self.remedy}, or write the rows to a file first"
                )
            start = stop


def _checksum(chunk: Chunk) -> int:
    crc = zlib.crc32(np.ascontiguousarray(chunk.x).data)
    return crc if chunk.weight is None else zlib.crc32(np.ascontiguousarray(chunk.weight).data, crc)


@dataclass(frozen=True, eq=False)
class ReaderChunkRef(ChunkRef):
    """Record batches that follow each other in a stream."""

    cursor: Cursor
    rows: int
    layout: TableLayout
    index: int
    start: int
    expected: Checksums | None = None

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk and its record batches."""
        return self.nbytes + self.rows * self.layout.stored_row_nbytes

    def load(self) -> Chunk:
        """Wait until the shared reader has come to this chunk, and take its rows."""
        chunk = gather(self.layout, self.rows, self.cursor.take(self.index), f"chunk {self.index}")
        if self.expected is not None:
            self.expected.require(chunk, self.place)
        return chunk


class ReaderSource(Source):
    """Rows of a stream that can be started anew; one pass while planning counts the rows and keeps none.

    With `same_rows`, which says what gives the rows one order, their checksums are kept too, and every chunk has to be
    what it was then.
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        options: ReadOptions,
        origin: str,
        witness: Callable[[], str] | None = None,
        same_rows: str | None = None,
    ) -> None:
        self._factory, self._chunk_bytes, self._origin = factory, options.chunk_bytes, origin
        self._witness, self._same_rows = witness, same_rows
        reader = start_reader(factory, origin)
        options = with_vocabularies(options, reader.schema, lambda name: column_of(factory, name, origin), origin)
        self._layout = plan_columns(reader.schema, options, origin)
        self.schema = self._layout.schema(origin)
        counted = _count(reader, self._layout, origin, same_rows is not None)
        self._batch_rows, self._checksums, self.checksum = counted.rows, counted.checksums, counted.checksum
        self.n_rows = sum(self._batch_rows)

    def fingerprint(self) -> str:
        """Columns, record batches and first rows as the planning pass saw them; `load` checks the lengths again.

        A `witness` adds the stamp of the files behind the stream.
        """
        witness = "" if self._witness is None else self._witness()
        if self._same_rows is not None:  # however the rows are cut
            digest = hashlib.sha256(f"{self._layout}:{self.checksum}".encode()).hexdigest()[:16]
            return f"query of {self.n_rows} rows {digest} {witness}".strip()
        text = f"{self._layout}:{self._batch_rows}:{self.checksum}"
        if self._witness is not None:
            text += f":{witness}"
        return f"reader-{self.n_rows}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def chunks(self) -> Sequence[ReaderChunkRef]:
        """Record batches, neighbours joined up to `chunk_bytes`."""
        pieces = group_pieces(self._batch_rows, self._layout.row_nbytes, self._chunk_bytes)
        groups = tuple(tuple(self._batch_rows[i] for i in piece) for piece in pieces)
        cursor = _shared(self._factory, groups, self._layout, self._origin, uuid.uuid4().hex)
        starts = [0]
        for group in groups:
            starts.append(starts[-1] + sum(group))
        return [
            ReaderChunkRef(cursor, sum(groups[i]), self._layout, i, starts[i], self._expected(piece))
            for i, piece in enumerate(pieces)
        ]

    def _expected(self, piece: range) -> Checksums | None:
        if self._same_rows is None:
            return None
        known = tuple((self._batch_rows[i], self._checksums[i]) for i in piece)
        return Checksums(known, self._origin, self._same_rows)


@dataclass(frozen=True)
class _Counted:
    """What one pass found.

    Attributes
    ----------
    rows : of each record batch
    checksums : of each record batch, where every one is compared later
    checksum : of all rows, or of the first ones
    """

    rows: tuple[int, ...]
    checksums: tuple[int, ...]
    checksum: int


def _count(reader: pa.RecordBatchReader, layout: TableLayout, origin: str, every: bool) -> _Counted:
    """Count the rows of a stream, and look at all of them, or at the first ones alone."""
    rows: list[int] = []
    checksums: list[int] = []
    checksum = 0
    while (batch := _next(reader, origin)) is not None:
        if every or not rows:
            head = _sound((batch if every else batch.slice(0, 1024)).select(layout.names), origin)
            chunk = gather(layout, head.num_rows, [head], origin)
            checksum = zlib.crc32(chunk.x.data, checksum)
            if every:
                checksums.append(_checksum(chunk))
        rows.append(batch.num_rows)
    reader.close()
    return _Counted(tuple(rows), tuple(checksums), checksum)


def column_of(factory: Callable[[], Any], name: str, origin: str) -> Iterator[pa.Array]:
    """The values of a column, batch by batch of a new reader."""
    reader = start_reader(factory, origin)
    require_column(name, reader.schema.names, origin)
    while (batch := _next(reader, origin)) is not None:
        yield _sound(batch.select([name]), origin).column(0)
