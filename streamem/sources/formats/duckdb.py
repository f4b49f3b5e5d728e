"""Rows of DuckDB: relations, which are run in every pass, and tables of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import pyarrow as pa

from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.sources.formats import flow, row_table
from streamem.sources.formats.duckdb_file import DuckRows, DuckView, plain_types, quoted, reader_of, table_in
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults
from streamem.sources.formats.row_table import RowTableSource
from streamem.sources.inside import split_inside
from streamem.sources.options import ReadOptions


@dataclass(frozen=True, eq=False)
class RelationRows(Flow):
    """A relation. It belongs to a connection of this process."""

    relation: Any
    origin: str = "the DuckDB relation"

    def __reduce__(self) -> NoReturn:
        raise ParameterError(
            "a DuckDB relation cannot leave its process: on a cluster pass the path of a database file, "
            "'x.duckdb/table', or write the relation with relation.write_parquet('x.parquet') and pass that"
        )

    @cached_property
    def _own(self) -> Any:
        """The relation on a connection beside the user's, on which one result may be open at a time."""
        connection: Any = getattr(self.relation, "_con", None)
        try:
            beside = connection.cursor()
            found = beside.sql(self.relation.sql_query())
            self.__dict__["_beside"] = beside  # a relation does not keep its connection alive
        except Exception:  # of temporary tables only the user's own connection knows
            return self.relation
        return found

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, as DuckDB gives them to Arrow."""
        with faults("find the columns of the DuckDB relation"):
            return plain_types(reader_of(self._own.limit(0), 1).schema)

    @property
    def identity(self) -> Any:
        """The object that is queried."""
        return id(self.relation)

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order."""
        return "give the relation an order that no two rows share, relation.order('id')"

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Run it; batches wait until they are asked for."""
        with reader_of(self._own.project(", ".join(map(quoted, names))), rows) as reader:
            yield from reader


def table_of(data: Any) -> DuckRows | DuckView | RelationRows:
    """What a path or a relation means."""
    if hasattr(data, "sql_query"):
        return RelationRows(data)
    place = split_inside(data)
    assert place is not None
    return table_in(place)


def open(data: Any, options: ReadOptions) -> Source:
    """A relation, or the path of a DuckDB file, with the name of a table where there are several.

    A table of a file is read by ranges of its row numbers, in any order and by several threads. A relation or a view is
    a query: run once while planning and once in every pass, and every row has to come as it came then.

    Raises
    ------
    SourceError : a file that cannot be opened, for another has it open for writing
    SchemaError : tables or columns that are missing, or not numeric
    SourceChangedError : rows of a query that come in another order than while planning
    """
    table = table_of(data)
    return RowTableSource(table, options) if isinstance(table, DuckRows) else flow.open_flow(table, options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    table = table_of(data)
    return row_table.column_of(table, name) if isinstance(table, DuckRows) else flow.column_of(table, name)
