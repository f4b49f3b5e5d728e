"""Rows of CSV files, in blocks of whole records that any thread can read; compressed ones from their beginning on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from streamem.core.errors import SourceChangedError
from streamem.core.ports import Source
from streamem.sources.columns import TableLayout
from streamem.sources.formats import flow, row_table
from streamem.sources.formats.csv_blocks import CsvHead, block_nbytes, blocks_after, parsed, read_head, wider
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults
from streamem.sources.formats.places import Place, place_at
from streamem.sources.formats.row_table import RowTable, RowTableSource
from streamem.sources.options import ReadOptions
from streamem.sources.plan import group_pieces

PLAIN = (".csv", ".tsv", ".tab")
COMPRESSED = tuple(f"{suffix}{packed}" for suffix in PLAIN for packed in (".gz", ".bz2", ".zst", ".lz4"))


@dataclass(frozen=True)
class CsvBlock:
    """Where records lie in a file, and how many rows they are."""

    offset: int
    nbytes: int
    rows: int


@dataclass(frozen=True)
class CsvRows(RowTable):
    """A file of which one pass has found where its blocks begin, and what types its columns have.

    Attributes
    ----------
    first : row at which the blocks begin, of a part of a table
    """

    place: Place
    head: CsvHead
    schema: pa.Schema
    blocks: tuple[CsvBlock, ...]
    first: int = 0
    starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = [self.first]
        for block in self.blocks:
            starts.append(starts[-1] + block.rows)
        object.__setattr__(self, "starts", tuple(starts))

    @property
    def origin(self) -> str:
        """The file in words."""
        return f"CSV file {self.place.shown}"

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.starts[-1] - self.first

    def cuts(self, row_nbytes: int, chunk_bytes: int) -> list[tuple[int, int]]:
        """Whole blocks, neighbours joined up to `chunk_bytes`."""
        pieces = group_pieces([block.rows for block in self.blocks], row_nbytes, chunk_bytes)
        return [(self.starts[piece.start], self.starts[piece.stop]) for piece in pieces]

    def part(self, start: int, stop: int) -> CsvRows:
        """The blocks of a chunk."""
        return replace(self, blocks=self._between(start, stop), first=start)

    def _between(self, start: int, stop: int) -> tuple[CsvBlock, ...]:
        return self.blocks[bisect_left(self.starts, start) : bisect_left(self.starts, stop)]

    def reading_nbytes(self, layout: TableLayout, rows: int) -> int:
        """The largest block as text, and twice as columns: they are read one at a time."""
        largest = max(self.blocks, key=lambda block: block.nbytes)
        return 2 * largest.nbytes + 2 * largest.rows * layout.stored_row_nbytes

    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """Parse block after block; columns that are not wanted are passed over."""
        types = {name: self.schema.field(name).type for name in names}
        with self.place.open() as file:
            for block in self._between(start, stop):
                file.seek(block.offset)
                text = file.read(block.nbytes)
                if len(text) != block.nbytes:
                    raise SourceChangedError(f"{self.origin} is shorter than it was: open it again")
                yield parsed(text, self.head, names, types)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, if it lies on this machine."""
        return self.place.paths

    def stamp(self) -> str:
        """Size, time and last bytes of the file."""
        return f"CSV {self.place.stamp('CSV file')}"


@dataclass(frozen=True)
class CsvFlow(Flow):
    """A compressed file, which can be read from its beginning on only."""

    place: Place
    head: CsvHead
    schema: pa.Schema

    @property
    def origin(self) -> str:
        """The file in words."""
        return f"CSV file {self.place.shown}"

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Unpack and parse block after block."""
        types = {name: self.schema.field(name).type for name in names}
        with self.place.unpacked() as stream:
            for block in blocks_after(self.head, stream, self.place.shown):
                yield parsed(block.text, self.head, names, types)

    def stamp(self) -> str:
        """Size, time and last bytes of the file."""
        return f"CSV {self.place.stamp('CSV file')}"


def is_compressed(path: str) -> bool:
    """Whether a name ends as those of compressed files do."""
    return path.endswith(COMPRESSED)


def _survey(place: Place, options: ReadOptions) -> tuple[CsvHead, pa.Schema, tuple[CsvBlock, ...]]:
    """One pass: the columns with types that hold all their values, and the blocks."""
    with faults(f"read CSV file {place.shown}"):
        head = _head(place)
        if len(set(head.names)) < len(head.names):
            return head, pa.schema([(name, pa.null()) for name in head.names]), ()  # refused where columns are chosen
        wanted = _wanted(head, options)
        kinds: dict[str, pa.DataType] = {name: pa.null() for name in head.names}
        blocks = []
        with place.unpacked() as stream:
            for block in blocks_after(head, stream, place.shown, block_nbytes(place.size)):
                table = parsed(block.text, head, wanted, {})
                kinds.update({name: wider(kinds[name], table.schema.field(name).type) for name in table.column_names})
                blocks.append(CsvBlock(block.start, len(block.text), table.num_rows))
    return head, pa.schema([(name, kinds[name]) for name in head.names]), tuple(blocks)


def _head(place: Place) -> CsvHead:
    with place.unpacked() as stream:
        return read_head(stream, place.shown)


def _wanted(head: CsvHead, options: ReadOptions) -> list[str] | None:
    """The columns whose types have to be known; None for all, also where one is missing, which is told later."""
    if options.columns is None:
        return None
    names = [*options.columns, *([] if options.weight_column is None else [options.weight_column])]
    return names if set(names) <= set(head.names) else None


def open(data: Any, options: ReadOptions) -> Source:
    """A CSV or TSV file in UTF-8 with a line of names. One pass finds the types and the blocks, which are then read
    side by side; a compressed file (``.csv.gz``) is read from its beginning on in every pass.

    Numbers are those of Arrow's reader: a decimal point; empty fields, NA, NaN and null are missing.

    Raises
    ------
    SourceError : no names, rows of unequal length, a quotation mark that is never closed
    SchemaError : columns that are missing, or hold text
    """
    place = place_at(data)
    head, schema, blocks = _survey(place, options)
    if is_compressed(place.path):
        return flow.open_flow(CsvFlow(place, head, schema), options)
    return RowTableSource(CsvRows(place, head, schema, blocks), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    place = place_at(data)
    with faults(f"read CSV file {place.shown}"):
        known = name in _head(place).names
    head, schema, blocks = _survey(place, replace(options, columns=(name,) if known else None, weight_column=None))
    if is_compressed(place.path):
        return flow.column_of(CsvFlow(place, head, schema), name)
    return row_table.column_of(CsvRows(place, head, schema, blocks), name)
