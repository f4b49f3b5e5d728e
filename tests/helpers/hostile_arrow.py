"""Arrow IPC bytes that lie: true ones, of which single numbers of the metadata (flatbuffers) are overwritten."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

LENGTH, NODES, BUFFERS, COMPRESSION = range(4)
"""Fields of a RecordBatch in Arrow's Message.fbs."""


def stream_of(table: pa.Table, rows: int | None = None, **options: Any) -> bytes:
    """A table as an IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def file_of(table: pa.Table, rows: int | None = None, **options: Any) -> bytes:
    """A table as an IPC file."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


@dataclass
class Batch:
    """A record batch (or dictionary batch) within bytes: where its numbers lie, to be overwritten."""

    data: bytearray
    kind: int
    table: int
    body: int
    header: int

    def field(self, number: int) -> int:
        """Where a field of the RecordBatch lies, 0 if it is left out."""
        return _field(self.data, self.table, number)

    def _vector(self, number: int) -> int:
        at = self.field(number)
        return at + _u32(self.data, at) + 4

    def node(self, i: int) -> int:
        """Where FieldNode i (length, null_count) lies."""
        return self._vector(NODES) + 16 * i

    def buffer(self, i: int) -> int:
        """Where Buffer i (offset, length) lies."""
        return self._vector(BUFFERS) + 16 * i

    def set_rows(self, rows: int) -> None:
        """Claim so many rows: of the batch and of every column that has as many as the batch has."""
        true = self.get(self.field(LENGTH))
        self.put(self.field(LENGTH), rows)
        at = self._vector(NODES)
        for i in range(_u32(self.data, at - 4)):
            if self.get(at + 16 * i) == true:
                self.put(at + 16 * i, rows)

    def get(self, at: int) -> int:
        return int(struct.unpack_from("<q", self.data, at)[0])

    def put(self, at: int, value: int) -> None:
        struct.pack_into("<q", self.data, at, value)

    def content(self, i: int) -> int:
        """Where the bytes of buffer i lie."""
        return self.body + self.get(self.buffer(i))


def batches(data: bytearray, start: int = 0) -> Iterator[Batch]:
    """Record batches (kind 3) and dictionaries (kind 2) of a stream; of a file from start 8 on."""
    at = start
    while at + 8 <= len(data):
        mark, size = struct.unpack_from("<Ii", data, at)
        if mark != 0xFFFFFFFF or size <= 0:
            return
        message = at + 8 + _u32(data, at + 8)
        kind = data[_field(data, message, 1)]
        where = _field(data, message, 2)
        header = where + _u32(data, where)
        length = _field(data, message, 3)
        nbytes = struct.unpack_from("<q", data, length)[0] if length else 0
        body = at + 8 + size
        if kind == 2:
            inner = _field(data, header, 1)
            yield Batch(data, kind, inner + _u32(data, inner), body, at)
        elif kind == 3:
            yield Batch(data, kind, header, body, at)
        at = body + nbytes


def _u32(data: bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytearray, table: int, number: int) -> int:
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    if 4 + 2 * number >= size:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


X = np.random.default_rng(0).normal(size=(2000, 2))
A, B = X.T


def _tables() -> dict[str, pa.Table]:
    texts = pa.array([f"text {i % 7}" for i in range(2000)])
    return {
        "plain": pa.table({"a": A, "b": B}),
        "nulls": pa.table({"a": pa.array(A, mask=np.arange(2000) % 7 == 0), "b": B}),
        "text": pa.table({"a": A, "b": B, "s": texts}),
        "codes": pa.table({"a": pa.array(A.round()).dictionary_encode(), "b": B}),
        "lists": pa.table({"a": A, "b": B, "l": pa.array([[1.0] * (i % 4) for i in range(2000)])}),
        "vectors": pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 2)}),
        "flags": pa.table({"a": A > 0, "b": B}),
    }


def _int32(batch: Batch, buffer: int, value: int) -> None:
    struct.pack_into("<i", batch.data, batch.content(buffer) + 4 * 100, value)


LIES: dict[str, tuple[str, int, dict[str, Any], Any]] = {
    "twice the rows": ("plain", 3, {}, lambda b: b.set_rows(1000)),
    "50 million rows": ("plain", 3, {}, lambda b: b.set_rows(50_000_000)),
    "2**62 rows": ("plain", 3, {}, lambda b: b.set_rows(2**62)),
    "-1 rows": ("plain", 3, {}, lambda b: b.set_rows(-1)),
    "rows of the batch": ("plain", 3, {}, lambda b: b.put(b.field(LENGTH), 1000)),
    "rows of a column": ("plain", 3, {}, lambda b: b.put(b.node(0), 1000)),
    "rows of compressed columns": ("plain", 3, {"compression": "zstd"}, lambda b: b.set_rows(1000)),
    "a buffer beyond the body": ("plain", 3, {}, lambda b: b.put(b.buffer(1), 10**6)),
    "a buffer longer than the body": ("plain", 3, {}, lambda b: b.put(b.buffer(1) + 8, 10**6)),
    "a buffer of negative length": ("plain", 3, {}, lambda b: b.put(b.buffer(1) + 8, -8)),
    "a buffer too short": ("plain", 3, {}, lambda b: b.put(b.buffer(1) + 8, 800)),
    "nulls without a bitmap": ("plain", 3, {}, lambda b: b.put(b.node(0) + 8, 5)),
    "all are null": ("nulls", 3, {}, lambda b: b.put(b.node(0) + 8, 500)),
    "more nulls than rows": ("nulls", 3, {}, lambda b: b.put(b.node(0) + 8, 2**40)),
    "offset of a text": ("text", 3, {}, lambda b: _int32(b, 5, 2**31 - 5)),
    "offset of a list": ("lists", 3, {}, lambda b: _int32(b, 5, 2**31 - 5)),
    "falling offsets": ("lists", 3, {}, lambda b: _int32(b, 5, 1)),
    "code beyond the dictionary": ("codes", 3, {}, lambda b: _int32(b, 1, 2**31 - 5)),
    "negative code": ("codes", 3, {}, lambda b: _int32(b, 1, -7)),
    "rows of vectors": ("vectors", 3, {}, lambda b: (b.put(b.field(LENGTH), 1000), b.put(b.node(0), 1000))),
    "rows of flags": ("flags", 3, {}, lambda b: b.set_rows(100_000)),
    "2**62 bytes compressed": ("plain", 3, {"compression": "zstd"}, lambda b: b.put(b.content(1), 2**62)),
    "2**40 bytes compressed": ("plain", 3, {"compression": "lz4"}, lambda b: b.put(b.content(1), 2**40)),
    "few bytes compressed": ("plain", 3, {"compression": "zstd"}, lambda b: b.put(b.content(1), 8)),
    "negative bytes compressed": ("plain", 3, {"compression": "lz4"}, lambda b: b.put(b.content(1), -5)),
}
"""Of a table: in the second of four record batches, what is overwritten."""
UNTRUE_DICTIONARY = "rows of the dictionary"


def lie(name: str, as_file: bool = False) -> bytes:
    """A stream (or file) of four record batches of 500 rows, of which the second lies."""
    kind, message, options, change = LIES[name]
    data = bytearray((file_of if as_file else stream_of)(_tables()[kind], 500, **options))
    change([batch for batch in batches(data, 8 * as_file) if batch.kind == message][1])
    return bytes(data)


def columns_of(name: str) -> list[str]:
    """The features of the table of a lie."""
    return ["e"] if LIES[name][0] == "vectors" else ["a", "b"]


def wide_schema(features: int = 2**28) -> bytes:
    """A stream of no record batch, whose only column is a list of so many numbers."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("e", pa.list_(pa.float64(), features))])):
        pass
    return sink.getvalue()


field_of = _field
