"""Queries that give their rows from the first to the last only: run anew in every pass, cut alike, and compared."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamem.core.errors import SourceChangedError
from streamem.sources import arrow_reader
from streamem.sources.arrow_reader import ReaderSource
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.formats.libraries import faults, sound
from streamem.sources.options import ReadOptions
from streamem.sources.plan import most_rows

COLUMN_ROWS = 2**14
"""Read at a time where one column is wanted."""


class Flow(ABC):
    """A query that can be run any number of times, each time from its first row to its last."""

    if TYPE_CHECKING:  # a subclass has fields or properties of these names

        @property
        def origin(self) -> str:
            """The query in words, for messages."""

        @property
        def schema(self) -> pa.Schema:
            """The columns of the query."""

    @abstractmethod
    def batches(self, names: list[str], rows: int) -> Iterable[Any]:
        """Run the query for the named columns: record batches or tables, about as many rows in each as asked for."""

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order, in words."""
        return "sort by a column that no two rows share"

    def stamp(self) -> str:
        """A short text that names the version of what is queried, if it has one."""
        return ""

    @property
    def identity(self) -> Any:
        """What tells this query from others in this process; None where its rows have one order whatever happens."""
        return None


@dataclass(frozen=True)
class _Planned:
    """The rows of a query as they came when it was opened last."""

    layout: TableLayout
    checksum: int


_PLANNED: OrderedDict[Any, _Planned] = OrderedDict()
MOST_PLANNED = 64


def open_flow(flow: Flow, options: ReadOptions) -> ReaderSource:
    """The rows of a query, which is run once while planning and once in every pass.

    Every chunk has to hold what it held while planning, bit for bit: rows that come in another order are an error.
    """
    options = with_vocabularies(options, flow.schema, partial(column_of, flow), flow.origin)
    layout = plan_columns(flow.schema, options, flow.origin)
    rows = most_rows(layout.row_nbytes, options.chunk_bytes)
    chosen = replace(options, columns=tuple(column.name for column in layout.columns), left_out=())
    run = Run(flow, tuple(layout.names), rows)
    source = ReaderSource(run, chosen, flow.origin, flow.stamp, same_rows=flow.order_remedy)
    if flow.identity is not None:
        _PLANNED[flow.identity] = _Planned(layout, source.checksum)
        while len(_PLANNED) > MOST_PLANNED:
            _PLANNED.popitem(last=False)
    return source


def column_of(flow: Flow, name: str) -> Iterator[pa.Array]:
    """The values of a column, in the order of the rows that were opened: these are read beside it, and compared.

    Raises
    ------
    SchemaError : there is no such column
    SourceChangedError : the rows come in another order than when the query was opened
    """
    require_column(name, flow.schema.names, flow.origin)
    planned = None if flow.identity is None else _PLANNED.get(flow.identity)
    if planned is None:
        return arrow_reader.column_of(Run(flow, (name,), COLUMN_ROWS), name, flow.origin)
    return _beside(flow, name, planned)


def _beside(flow: Flow, name: str, planned: _Planned) -> Iterator[pa.Array]:
    names = tuple(dict.fromkeys((*planned.layout.names, name)))
    checksum = 0
    for batch in arrow_reader.start_reader(Run(flow, names, COLUMN_ROWS), flow.origin):
        chunk = gather(planned.layout, batch.num_rows, [sound(batch, flow.origin)], flow.origin)
        checksum = zlib.crc32(chunk.x.data, checksum)
        yield batch.column(name)
    if checksum != planned.checksum:
        raise SourceChangedError(
            f"{flow.origin}: column {name!r} was read beside rows that do not come as they came when they were opened; "
            f"every run needs the same rows in the same order: {flow.order_remedy}, or write the rows to a file first"
        )


@dataclass(frozen=True)
class Run:
    """Runs a query at every call, and cuts what comes into batches of equally many rows, but for the last."""

    flow: Flow
    names: tuple[str, ...]
    rows: int

    def __call__(self) -> pa.RecordBatchReader:
        with faults(f"run {self.flow.origin}"):
            wanted = pa.schema([self.flow.schema.field(name) for name in self.names])
            return pa.RecordBatchReader.from_batches(wanted, even_batches(self._plain(wanted), self.rows, wanted))

    def _plain(self, wanted: pa.Schema) -> Iterator[pa.Table]:
        with faults(f"read {self.flow.origin}"):
            for batch in self.flow.batches(list(self.names), self.rows):
                table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
                table = table.select(list(self.names))
                yield table if table.schema.equals(wanted) else table.cast(wanted)


def even_batches(tables: Iterable[pa.Table], rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of tables that follow each other in batches of `rows`, the last perhaps shorter.

    Libraries cut as their threads come; the rows of a chunk must not depend on that.
    """
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        while table.num_rows:
            part, table = table.slice(0, rows - held), table.slice(rows - held)
            waiting.append(part)
            held += part.num_rows
            if held == rows:
                yield _one(waiting, schema)
                waiting, held = [], 0
    if held:
        yield _one(waiting, schema)


def _one(parts: list[pa.Table], schema: pa.Schema) -> pa.RecordBatch:
    table = pa.concat_tables(parts).combine_chunks()
    arrays = [
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) for column in table.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
