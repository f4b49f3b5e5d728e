"""Arrow IPC as bytes: streams and files that follow each other, of which every record batch is checked before use.

Whoever wrote the bytes may lie about counts, lengths and offsets: Arrow's readers believe them, and whoever then reads
a value reads beyond the buffers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from streamem.core.arrow_claims import require_modest
from streamem.core.errors import DataError, StreamError
from streamem.core.message import KEPT_BYTES, Damaged
from streamem.streams.byte_reader import ByteReader

CONTINUATION, FILE = b"\xff\xff\xff\xff", b"ARROW1\0\0"
"""First bytes of a stream, and of a file."""
MODEST_BYTES = 2**13
"""What a payload must hold before it can be decompressed to a quarter of a gibibyte."""
AS_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError)
"""What Arrow raises for bytes that are not what they claim to be."""


def require_sound(batch: Any) -> None:
    """Raise `pyarrow.ArrowInvalid` unless a record batch or table is what it claims to be, in every value.

    Columns of text may hold other bytes than UTF-8, as long as nobody reads them as text.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        batch.validate()
        for column in batch.columns:
            for piece in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                (piece.view(AS_BYTES[piece.type]) if piece.type in AS_BYTES else piece).validate(full=True)
    if batch.num_rows and not batch.num_columns:
        raise pa.ArrowInvalid(f"{batch.num_rows} rows without a column")


def arrow_batches(source: ByteReader) -> Iterator[pa.RecordBatch | Damaged]:
    """Record batches of all Arrow streams and files that follow each other; `Damaged` in place of one that lies.

    Raises
    ------
    StreamError : columns that differ from those of the first, or bytes that are neither a stream nor a file
    ArrowException, OSError : bytes that break off, or messages whose lengths cannot be
    """
    first: pa.Schema | None = None
    while start := source.peek(len(FILE)):
        is_file = _is_file(start, source.offset, first is not None)
        at = source.offset
        if is_file:
            source.read(len(FILE))
        stream = _Messages(source)
        first = _agreed(first, stream.schema, at)
        yield from stream
        if is_file:
            _pass_footer(source)


def arrow_table(payload: bytes) -> pa.Table:
    """The rows of all Arrow streams and files that a payload holds.

    Raises
    ------
    DataError : bytes that are not what they claim to be
    """
    try:
        return _table_of(payload)
    except UNREADABLE as error:
        raise DataError(f"damaged Arrow bytes: {error}") from error


def _table_of(payload: bytes) -> pa.Table:
    source = pa.BufferReader(payload)
    tables: list[pa.Table] = []
    while (at := source.tell()) < len(payload) or not tables:
        if _is_file(payload[at : at + len(FILE)], at, bool(tables)):
            return _of_files(payload)
        if len(payload) > MODEST_BYTES:
            _require_modest(payload, at)
        try:
            with pa.ipc.open_stream(source) as reader:
                if tables:
                    _agreed(tables[0].schema, reader.schema, at)
                tables.append(reader.read_all())
        except pa.ArrowMemoryError:
            _require_modest(payload, at)
            raise
    for table in tables:
        require_sound(table)
    return tables[0] if len(tables) == 1 else _joined(tables)


def _is_file(start: bytes, at: int, behind: bool) -> bool:
    """Whether bytes begin a file and not a stream."""
    if start.startswith((CONTINUATION, FILE)):
        return start.startswith(FILE)
    if CONTINUATION.startswith(start) or FILE.startswith(start):
        raise EOFError(f"the next Arrow stream breaks off at byte {at + len(start)}")
    place = f"behind the end of an Arrow stream, at byte {at}," if behind else f"at byte {at}"
    raise StreamError(
        f"{place} come bytes that begin no further one: {start!r}…; what lies there would be lost. Cut it off, or "
        "write whole Arrow streams one after the other"
    )


def _agreed(first: pa.Schema | None, schema: pa.Schema, at: int) -> pa.Schema:
    """The schema of the first stream, which every later one must have."""
    names, kinds = schema.names, schema.types
    if first is None or (names == first.names and kinds == first.types):
        return schema if first is None else first
    extra, missing = sorted(set(names) - set(first.names)), sorted(set(first.names) - set(names))
    changed = [f"{name!r} is {kind}" for name, kind in zip(names, kinds, strict=True) if name in first.names]
    what = f"columns {extra[:10]} more and {missing[:10]} less" if extra or missing else f"{', '.join(changed[:10])}"
    raise StreamError(
        f"the Arrow stream that begins at byte {at} has other columns than the first one: {what}; streams that follow "
        "each other need the same columns, in the same order and of the same types"
    )


def _joined(tables: list[pa.Table]) -> pa.Table:
    """All rows, with the schema of the first table: they may differ in metadata."""
    return pa.concat_tables([pa.Table.from_arrays(table.columns, schema=tables[0].schema) for table in tables])


def _of_files(payload: bytes) -> pa.Table:
    """Record batches of Arrow files, and of streams behind them, message by message."""
    tables = []
    for batch in arrow_batches(ByteReader(io.BytesIO(payload))):
        if isinstance(batch, Damaged):
            raise DataError(batch.reason)
        tables.append(pa.Table.from_batches([batch]))
    return _joined(tables) if tables else pa.table({})


def _require_modest(payload: bytes, at: int) -> None:
    """Refuse a stream that begins at this place and whose messages claim more than can be."""
    rest = pa.py_buffer(payload).slice(at)
    for message in _read_messages(pa.ipc.MessageReader.open_stream(pa.BufferReader(rest))):
        require_modest(message)


def _read_messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


class _Messages:
    """The record batches of one stream, whose messages are read whole before anything in them is believed."""

    def __init__(self, source: ByteReader) -> None:
        self._source = source
        self._messages = _read_messages(pa.ipc.MessageReader.open_stream(pa.PythonFile(source, "r")))
        self._first = next(self._messages, None)
        if self._first is None or self._first.type != "schema":
            raise EOFError(f"no schema comes first, at byte {source.offset}")
        self.schema: pa.Schema = pa.ipc.read_schema(self._first)
        self._given: _Given | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch | Damaged]:
        at = self._source.offset
        for message in self._messages:
            if message.type == "record batch":
                yield self._batch(message, at)
            else:
                self._add_dictionary(message)
            at = self._source.offset

    def _add_dictionary(self, message: Any) -> None:
        """Keep a dictionary for the next record batch; only a reader of the whole stream knows what it belongs to."""
        if self._given is None:
            self._given = _Given(self._first)
            self._reader = pa.ipc.open_stream(pa.PythonFile(self._given, "r"))
        self._given.add(message)

    def _batch(self, message: Any, at: int) -> pa.RecordBatch | Damaged:
        try:
            require_modest(message)
            batch = self._read(message)
            require_sound(batch)
        except pa.ArrowMemoryError:  # of a message that claims no more than it may
            raise
        except (*UNREADABLE, StopIteration) as error:
            if self._given is not None:
                self._given.clear()
            return Damaged(f"damaged Arrow record batch at byte {at}: {error}", _bytes_of(message))
        return batch

    def _read(self, message: Any) -> pa.RecordBatch:
        if self._given is None:
            return pa.ipc.read_record_batch(message, self.schema)
        self._given.add(message)
        return self._reader.read_next_batch()


class _Given:
    """A file of whole messages, for a reader that asks for their parts one by one."""

    closed = False

    def __init__(self, first: Any) -> None:
        self._parts: list[Any] = _parts_of(first)

    def add(self, message: Any) -> None:
        self._parts += _parts_of(message)

    def clear(self) -> None:
        self._parts = []

    def read(self, nbytes: int = -1) -> Any:
        if not self._parts:
            return b""
        part = self._parts.pop(0)
        if 0 <= nbytes < len(part):
            self._parts.insert(0, part[nbytes:])
            return part[:nbytes]
        return part

    def close(self) -> None:
        """Do nothing: the bytes are in memory."""


def _parts_of(message: Any) -> list[Any]:
    """Continuation, length, metadata and body of a message, in the order of a stream."""
    metadata = message.metadata.to_pybytes()
    metadata += bytes(-len(metadata) % 8)
    parts = [CONTINUATION, len(metadata).to_bytes(4, "little"), metadata]
    return [*parts, message.body] if message.body is not None and message.body.size else parts


def _bytes_of(message: Any) -> bytes:
    """Bytes of a message as it came, as far as they are kept."""
    kept = b""
    for part in _parts_of(message):
        kept += bytes(memoryview(part)[: KEPT_BYTES - len(kept)])
    return kept


def _pass_footer(source: ByteReader) -> None:
    """Read on to the end of a file: its footer, the footer's length, and the magic word."""
    wanted, found = 2**12, b""
    while True:
        found = source.peek(wanted)
        at = found.find(FILE[:6])
        while at >= 4:
            if int.from_bytes(found[at - 4 : at], "little") == at - 4:
                source.read(at + 6)
                return
            at = found.find(FILE[:6], at + 1)
        if len(found) < wanted:
            raise OSError(f"the Arrow file ends without its footer, at byte {source.offset + len(found)}")
        wanted *= 2
