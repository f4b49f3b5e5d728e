"""Parts of Parquet row groups that are larger than a chunk should be."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout
from streamem.sources.parquet_catalogue import RowGroup, local_paths
from streamem.sources.parquet_reading import with_keys
from streamem.sources.parquet_stream import BEHIND, RowRange, buffer_nbytes
from streamem.sources.parquet_streams import GroupStreams

PAGE_NBYTES, DICTIONARY_NBYTES = 2 * 2**20, 2 * 2**20
"""Of a column while it is decoded: a page as it is stored and as it is decompressed, likewise its dictionary, at the
sizes at which Arrow, Spark and others cut them."""


@dataclass(frozen=True)
class ParquetPartRef(ChunkRef):
    """Some rows of one row group; the `streams` are shared by all parts of a plan."""

    filesystem: pafs.FileSystem
    row_group: RowGroup
    part: RowRange
    layout: TableLayout
    index: int
    start: int
    streams: GroupStreams

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.part.rows

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, its rows decoded and those that the stream holds around them, and the decoder."""
        group = self.row_group
        decoded = self.layout.stored_row_nbytes
        held = min(group.rows, (2 + BEHIND) * self.part.step) * decoded
        column = PAGE_NBYTES + buffer_nbytes(self.filesystem)
        decoder = group.leaves * column + group.dictionaries * DICTIONARY_NBYTES
        return self.nbytes + held + min(decoder, 3 * (group.rows * decoded + group.nbytes))

    @property
    def wants_order(self) -> bool:
        """Parts of a row group do: it is decoded from its beginning on."""
        return True

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, of this machine."""
        return local_paths(self.filesystem, [self.row_group])

    def load(self) -> Chunk:
        """Take the rows from the stream, and turn them into a chunk in this thread."""
        batches = self.streams.take(self.filesystem, self.row_group, self.layout, self.part)
        tables = (with_keys(pa.Table.from_batches([batch]), self.row_group) for batch in batches)
        return gather(self.layout, self.rows, tables, f"chunk {self.index}")
