"""Queries that give their rows from the first to the last only: run anew in every pass, cut alike, and compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamem.sources import arrow_reader
from streamem.sources.arrow_reader import ReaderSource
from streamem.sources.categories import with_vocabularies
from streamem.sources.columns import plan_columns, require_column
from streamem.sources.formats.libraries import faults
from streamem.sources.options import ReadOptions
from streamem.sources.plan import most_rows


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


def open_flow(flow: Flow, options: ReadOptions) -> ReaderSource:
    """The rows of a query, which is run once while planning and once in every pass.

    Every chunk has to hold what it held while planning, bit for bit: rows that come in another order are an error.
    """
    options = with_vocabularies(options, flow.schema, partial(column_of, flow), flow.origin)
    layout = plan_columns(flow.schema, options, flow.origin)
    rows = most_rows(layout.row_nbytes, options.chunk_bytes)
    chosen = replace(options, columns=tuple(column.name for column in layout.columns), left_out=())
    run = Run(flow, tuple(layout.names), rows)
    return ReaderSource(run, chosen, flow.origin, flow.stamp, same_rows=flow.order_remedy)


def column_of(flow: Flow, name: str) -> Iterator[pa.Array]:
    """The values of a column, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    require_column(name, flow.schema.names, flow.origin)
    return arrow_reader.column_of(Run(flow, (name,), 2**16), name, flow.origin)


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
