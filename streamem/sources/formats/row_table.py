"""Tables of which any rows can be read by their position: what a format has to say, and the source made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.formats.libraries import faults, sound
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts

COLUMN_ROWS = 2**16
"""Read at a time where one column is wanted alone."""


class RowTable(ABC):
    """A table of which rows can be read by position, in any thread, in any order, any number of times.

    It travels to workers, so it holds an address and a version rather than an open file.
    """

    if TYPE_CHECKING:  # a subclass has fields or properties of these names

        @property
        def origin(self) -> str:
            """The table in words, for messages."""

        @property
        def schema(self) -> pa.Schema:
            """The columns of the table."""

        @property
        def n_rows(self) -> int:
            """Number of rows."""

    @abstractmethod
    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """Rows start … stop − 1 of the named columns: record batches or tables, one after the other."""

    @abstractmethod
    def stamp(self) -> str:
        """A short text that changes when the table does, and names its version where it has one."""

    def cuts(self, row_nbytes: int, chunk_bytes: int) -> list[tuple[int, int]]:
        """Where the rows are cut into chunks: (start, stop) of each."""
        return even_cuts(self.n_rows, row_nbytes, chunk_bytes)

    def part(self, start: int, stop: int) -> RowTable:
        """What has to travel with the handle of these rows; it is asked for no others."""
        return self

    def reading_nbytes(self, layout: TableLayout, rows: int) -> int:
        """Most bytes that reading so many rows takes beside the chunk."""
        return 2 * rows * layout.stored_row_nbytes

    @property
    def hint(self) -> str:
        """Added to messages of what cannot be read."""
        return ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and folders of this machine that reading opens."""
        return ()


@dataclass(frozen=True, eq=False)
class RowTableRef(ChunkRef):
    """Rows start … start + rows − 1."""

    table: RowTable
    layout: TableLayout
    index: int
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, and its rows as the format's library gives them."""
        return self.nbytes + self.table.reading_nbytes(self.layout, self.rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """What reading the table opens on this machine."""
        return self.table.paths

    def load(self) -> Chunk:
        """Read the columns that are needed.

        Raises
        ------
        SourceError : they cannot be read
        """
        return gather(self.layout, self.rows, self._batches(), f"{self.place} of {self.table.origin}")

    def _batches(self) -> Iterator[Any]:
        stop = self.start + self.rows
        with faults(f"read rows {self.start}–{stop - 1} of {self.table.origin}", self.table.hint):
            for batch in self.table.batches(self.layout.names, self.start, stop):
                yield sound(batch, self.table.origin)


class RowTableSource(Source):
    """Rows of a table, cut where the table says."""

    def __init__(self, table: RowTable, options: ReadOptions) -> None:
        options = with_vocabularies(options, table.schema, partial(column_of, table), table.origin)
        self._table, self._chunk_bytes = table, options.chunk_bytes
        self._layout = plan_columns(table.schema, options, table.origin)
        self.schema = self._layout.schema(table.origin)
        self.n_rows = table.n_rows

    def fingerprint(self) -> str:
        """What the table says of its state and version, its rows, and the columns that are read."""
        return f"{self._table.stamp()}, {self.n_rows} rows of {self._layout.stamp}"

    def chunks(self) -> Sequence[RowTableRef]:
        """A chunk for each cut of the table."""
        cuts = self._table.cuts(self._layout.row_nbytes, self._chunk_bytes)
        return [RowTableRef(self._table.part(a, b), self._layout, i, a, b - a) for i, (a, b) in enumerate(cuts)]


def column_of(table: RowTable, name: str) -> Iterator[pa.Array]:
    """The values of a column, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    require_column(name, table.schema.names, table.origin)
    for start, stop in table.cuts(8, 8 * COLUMN_ROWS):
        with faults(f"read column {name!r} of {table.origin}", table.hint):
            for batch in table.batches([name], start, stop):
                column = sound(batch, table.origin).column(name)
                yield from column.chunks if isinstance(column, pa.ChunkedArray) else [column]
