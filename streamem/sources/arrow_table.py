"""Rows of Arrow tables in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts

FINGERPRINT_ROWS = 1024


@dataclass(frozen=True, eq=False)
class TableChunkRef(ChunkRef):
    """A slice of a table; only the slice travels when the handle is pickled."""

    table: pa.Table
    layout: TableLayout
    index: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, and one column converted."""
        return self.nbytes + self.rows * max(column.width * 8 for column in self.layout.read)

    def load(self) -> Chunk:
        """Copy the columns side by side."""
        return gather(self.layout, self.rows, [self.table], f"chunk {self.index}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickling a sliced array writes the whole buffers below it; Arrow's own format writes the slice.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return _rebuild, (sink.getvalue().to_pybytes(), self.layout, self.index, self.start)


def _rebuild(table: bytes, layout: TableLayout, index: int, start: int) -> TableChunkRef:
    with pa.ipc.open_stream(table) as reader:
        return TableChunkRef(reader.read_all(), layout, index, start)


def _takeable(table: pa.Table) -> pa.Table:
    """The table with text in a layout from which Arrow can pick rows: polars has another."""
    kinds = [pa.large_string() if field.type == pa.string_view() else field.type for field in table.schema]
    if kinds == table.schema.types:
        return table
    return table.cast(pa.schema([pa.field(name, kind) for name, kind in zip(table.column_names, kinds, strict=True)]))


class TableSource(Source):
    """Rows of a table in memory, cut evenly; nothing is copied before a chunk is loaded."""

    def __init__(
        self, table: pa.Table, layout: TableLayout, options: ReadOptions, origin: str, named: bool = True
    ) -> None:
        self._table = _takeable(table.select(layout.names))
        self._layout = layout
        self.schema = layout.schema(origin, named)
        self.n_rows = int(table.num_rows)
        self._chunk_bytes = options.table_chunk_bytes(self.n_rows, self.schema.n_features, layout.row_nbytes)

    def fingerprint(self) -> str:
        """Types, number of rows, and a checksum of evenly spaced rows."""
        step = max(1, self.n_rows // FINGERPRINT_ROWS)
        sample = self._table.take(pa.array(range(0, self.n_rows, step), pa.int64()))
        digest = hashlib.sha256(self._table.schema.to_string(show_schema_metadata=False).encode())
        chunk = gather(self._layout, sample.num_rows, [sample], self.schema.origin)
        digest.update(chunk.x.tobytes() + (b"" if chunk.weight is None else chunk.weight.tobytes()))
        return f"table-{self.n_rows}-{digest.hexdigest()[:16]}"

    def chunks(self) -> Sequence[TableChunkRef]:
        """Even cuts (`ReadOptions.table_chunk_bytes`)."""
        cuts = even_cuts(self.n_rows, self._layout.row_nbytes, self._chunk_bytes)
        return [TableChunkRef(self._table.slice(a, b - a), self._layout, i, a) for i, (a, b) in enumerate(cuts)]
