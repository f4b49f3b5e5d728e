"""Rows of Ibis tables: queries, which their backend runs in every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from streamem.core.errors import SchemaError
from streamem.core.ports import Source
from streamem.sources.formats import flow, polars_lazy
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults
from streamem.sources.options import ReadOptions


@dataclass(frozen=True, eq=False)
class IbisRows(Flow):
    """A table expression."""

    table: Any
    origin: str = "the Ibis table"

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        with faults("find the columns of the Ibis table"):
            return self.table.schema().to_pyarrow()

    @property
    def identity(self) -> Any:
        """The object that is queried."""
        return id(self.table)

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order."""
        return "give the table an order that no two rows share, table.order_by('id')"

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Let the backend run it; what is selected and filtered is pushed down."""
        with self.table.select(names).to_pyarrow_batches(chunk_size=rows) as reader:
            yield from reader


def _query_of(data: Any) -> Flow:
    """A table as its backend runs it: the one of polars would collect all rows, and gives its LazyFrame instead."""
    if not hasattr(data, "to_pyarrow_batches") or not hasattr(data, "columns"):
        raise SchemaError(f"an Ibis {type(data).__name__} has no columns; pass a table, for example with as_table()")
    with faults("compile the Ibis table"):
        compiled = data.compile()
    return (
        polars_lazy.LazyRows(compiled, "the Ibis table", id(data))
        if type(compiled).__name__ == "LazyFrame"
        else IbisRows(data)
    )


def open(data: Any, options: ReadOptions) -> Source:
    """An Ibis table: run once while planning and once in every pass, in batches; memory is that of its backend.

    Raises
    ------
    SchemaError : columns that are missing or not numeric
    SourceChangedError : rows that come in another order, or with other values, than while planning
    """
    return flow.open_flow(_query_of(data), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    return flow.column_of(_query_of(data), name)
