"""Rows of a table in a DuckDB file (``x.duckdb``, ``x.duckdb/table``), by ranges of its row numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.sources.columns import TableLayout
from streamem.sources.file_stamp import stamp
from streamem.sources.formats.duckdb_attached import SETTINGS, cannot_open, duckdb_for, reading
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults
from streamem.sources.formats.row_table import RowTable
from streamem.sources.inside import Inside
from streamem.sources.plan import group_pieces

VECTOR = 2048
"""Row numbers that DuckDB stores and reads together."""
ROW_GROUP = 122_880


@contextlib.contextmanager
def connected(path: str) -> Iterator[Any]:
    """A connection that only reads; the file is let go at the end, so that others may write it between passes."""
    duckdb = duckdb_for(path)
    try:
        connection = duckdb.connect(path, read_only=True, config=SETTINGS)
    except Exception as error:
        raise cannot_open(path, error) from error
    with contextlib.closing(connection):
        yield connection


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def plain_types(schema: pa.Schema) -> pa.Schema:
    """The types as they are asked for: numbers that Arrow has not as such become float64."""
    return pa.schema([pa.field(field.name, field.type) for field in schema])


@dataclass(frozen=True, eq=False)
class DuckRows(RowTable):
    """A table; what was deleted has no row number any more.

    Attributes
    ----------
    table : its name in SQL
    vectors : (v, 2) int64: first row number, and rows that are left, of every `VECTOR` row numbers with any
    first : row at which the vectors begin, of a part of a table
    """

    path: str
    table: str
    schema: pa.Schema
    vectors: NDArray[np.int64]
    first: int = 0

    @property
    def origin(self) -> str:
        """The table in words."""
        return f"DuckDB table {self.table} of {self.path}"

    @cached_property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.vectors[:, 1].sum())

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return self.first + np.concatenate([np.zeros(1, np.int64), np.cumsum(self.vectors[:, 1])])

    def cuts(self, row_nbytes: int, chunk_bytes: int) -> list[tuple[int, int]]:
        """Whole vectors, neighbours joined up to `chunk_bytes`."""
        pieces = group_pieces(self.vectors[:, 1].tolist(), row_nbytes, chunk_bytes)
        return [(int(self._starts[piece.start]), int(self._starts[piece.stop])) for piece in pieces]

    def part(self, start: int, stop: int) -> DuckRows:
        """The vectors of a chunk."""
        a, b = np.searchsorted(self._starts, [start, stop])
        return replace(self, vectors=self.vectors[a:b], first=start)

    def reading_nbytes(self, layout: TableLayout, rows: int) -> int:
        """The rows as Arrow holds them twice, and a block of 256 KiB a column."""
        return 2 * rows * layout.stored_row_nbytes + 2**18 * len(layout.read)

    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """Row numbers from the first vector to the last, in their order; row groups beyond are passed over."""
        a, b = np.searchsorted(self._starts, [start, stop])
        low, high = int(self.vectors[a, 0]), int(self.vectors[b - 1, 0]) + VECTOR
        chosen = ", ".join(map(quoted, names))
        with reading(self.path) as (connection, database):
            rows = f"FROM {database}.{self.table} WHERE rowid >= {low} AND rowid < {high}"
            with reader_of(connection.sql(f"SELECT {chosen} {rows}"), stop - start) as found:
                yield from found

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def stamp(self) -> str:
        """The state of the file, and of the log beside it."""
        return file_state(self.path)


@dataclass(frozen=True)
class DuckView(Flow):
    """A view of a file: a query, which has no row numbers."""

    path: str
    table: str
    schema: pa.Schema

    @property
    def origin(self) -> str:
        """The view in words."""
        return f"DuckDB view {self.table} of {self.path}"

    @property
    def identity(self) -> Any:
        """The file and the view."""
        return self.path, self.table

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Run the query."""
        with connected(self.path) as connection:
            yield from reader_of(connection.sql(f"SELECT {', '.join(map(quoted, names))} FROM {self.table}"), rows)

    def stamp(self) -> str:
        """The state of the file, and of the log beside it."""
        return file_state(self.path)


def reader_of(relation: Any, rows: int) -> pa.RecordBatchReader:
    """The rows of a relation as they come, some at a time."""
    start = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return start(max(1, rows))


def file_state(path: str) -> str:
    """Size, time and last bytes of a file, and of its write-ahead log."""
    files = [path, *(log for log in (f"{path}.wal",) if Path(log).exists())]
    return f"DuckDB {stamp(pafs.LocalFileSystem(), files, 'DuckDB file')}"


def table_in(place: Inside) -> DuckRows | DuckView:
    """The table or view that a path names, or the only one of a file.

    Raises
    ------
    SchemaError : there is none of that name, or several and no name
    SourceError : the file cannot be opened
    """
    with connected(place.file) as connection, faults(f"read DuckDB file {place.file}"):
        kinds = _listed(connection)
        table = _chosen(place, kinds)
        schema = plain_types(reader_of(connection.sql(f"SELECT * FROM {table} LIMIT 0"), 1).schema)
        if kinds[table] == "view":
            return DuckView(place.file, table, schema)
        counted = f"SELECT rowid // {VECTOR} AS v, count(*) FROM {table} GROUP BY v ORDER BY v"
        found = connection.sql(counted).fetchnumpy()
        first, rows = (np.asarray(column, np.int64) for column in found.values())
        return DuckRows(place.file, table, schema, np.column_stack([first * VECTOR, rows]))


def _listed(connection: Any) -> dict[str, str]:
    """Tables and views by their names in SQL."""
    rows = connection.sql(
        "SELECT schema_name, table_name, 'table' FROM duckdb_tables() WHERE NOT internal AND database_name = "
        "current_database() UNION ALL SELECT schema_name, view_name, 'view' FROM duckdb_views() WHERE NOT internal "
        "AND database_name = current_database() ORDER BY ALL"
    ).fetchall()
    return {f"{quoted(schema)}.{quoted(name)}": kind for schema, name, kind in rows}


def _chosen(place: Inside, kinds: dict[str, str]) -> str:
    parts = [part for part in place.name.split("/") if part]
    if not parts and len(kinds) == 1:
        return next(iter(kinds))
    wanted = ".".join(map(quoted, parts if len(parts) > 1 else ["main", *parts]))
    if parts and wanted in kinds:
        return wanted
    held = ", ".join(name.replace('"main".', "").replace('"', "").replace(".", "/") for name in kinds) or "no table"
    if not parts:
        raise SchemaError(
            f"DuckDB file {place.file} holds {held}: name one, {place.file + '/' + held.split(', ')[0]!r}"
        )
    raise SchemaError(f"DuckDB file {place.file} has no table {place.name!r}; it holds {held}")
