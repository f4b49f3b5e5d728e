"""Rows of ORC files, stripe by stripe."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc

from streamem.core.errors import SourceChangedError
from streamem.core.ports import Source
from streamem.sources.columns import TableLayout
from streamem.sources.formats import row_table
from streamem.sources.formats.libraries import faults
from streamem.sources.formats.places import Place, place_at
from streamem.sources.formats.row_table import RowTable, RowTableSource
from streamem.sources.options import ReadOptions
from streamem.sources.plan import group_pieces


@dataclass(frozen=True)
class OrcRows(RowTable):
    """An ORC file. Its footer does not tell how many rows a stripe has: the narrowest column is decoded once.

    Attributes
    ----------
    stripes : rows of each
    first : number of the first of them, and its first row, of a part of a table
    """

    place: Place
    schema: pa.Schema
    stripes: tuple[int, ...]
    starts: tuple[int, ...] = field(init=False)
    first: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        starts = [self.first[1]]
        for rows in self.stripes:
            starts.append(starts[-1] + rows)
        object.__setattr__(self, "starts", tuple(starts))

    @property
    def origin(self) -> str:
        """The file in words."""
        return f"ORC file {self.place.shown}"

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(self.stripes)

    def cuts(self, row_nbytes: int, chunk_bytes: int) -> list[tuple[int, int]]:
        """Whole stripes, neighbours joined up to `chunk_bytes`."""
        pieces = group_pieces(self.stripes, row_nbytes, chunk_bytes)
        return [(self.starts[piece.start], self.starts[piece.stop]) for piece in pieces]

    def part(self, start: int, stop: int) -> OrcRows:
        """The stripes of a chunk."""
        a, b = bisect_left(self.starts, start), bisect_left(self.starts, stop)
        return replace(self, stripes=self.stripes[a:b], first=(self.first[0] + a, start))

    def reading_nbytes(self, layout: TableLayout, rows: int) -> int:
        """A stripe as it is stored, and decoded: they are read one at a time."""
        return 2 * min(rows, max(self.stripes, default=0)) * layout.stored_row_nbytes

    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """The stripes that hold the rows."""
        file = orc.ORCFile(self.place.open())
        a, b = bisect_left(self.starts, start), bisect_left(self.starts, stop)
        for number in range(self.first[0] + a, self.first[0] + b):
            if number >= file.nstripes:
                raise SourceChangedError(
                    f"{self.origin} no longer has stripe {number}: it was rewritten; open it again"
                )
            yield file.read_stripe(number, columns=names)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, if it lies on this machine."""
        return self.place.paths

    def stamp(self) -> str:
        """Size, time and last bytes of the file."""
        return f"ORC {self.place.stamp('ORC file')}"


def table_at(path: Any) -> OrcRows:
    """The table of a file."""
    place = place_at(path)
    with faults(f"read ORC file {place.shown}"):
        file = orc.ORCFile(place.open())
        schema = file.schema
        narrow = [field.name for field in schema if pa.types.is_primitive(field.type)]
        narrow = sorted(narrow, key=lambda name: schema.field(name).type.bit_width)[:1]
        stripes = tuple(file.read_stripe(i, columns=narrow or None).num_rows for i in range(file.nstripes))
    return OrcRows(place, schema, stripes)


def open(data: Any, options: ReadOptions) -> Source:
    """An ORC file; the unit of reading is the stripe.

    Raises
    ------
    SourceError : no ORC, or damaged
    SchemaError : columns that are missing or not numeric
    """
    return RowTableSource(table_at(data), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    return row_table.column_of(table_at(data), name)
