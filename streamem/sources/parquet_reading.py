"""The rows of a row group as Arrow tables: at once, or a batch after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from streamem.core.errors import SourceChangedError, SourceError
from streamem.sources.columns import TableLayout
from streamem.sources.parquet_catalogue import RowGroup

SPREAD = True
"""Whether Arrow's threads decode the columns of a batch: see `batches_of`."""


def read_group(file: Any, group: RowGroup, layout: TableLayout) -> pa.Table:
    """All rows of a row group of an open file, the partition keys among the columns.

    Raises
    ------
    SourceChangedError : the file was rewritten
    SourceError : it is damaged
    """
    _require_rows(file, group)
    with _faults(group):
        # A row group at a time, in this thread: two executor threads then hold two row groups, not a queue of them.
        table = file.read_row_group(group.number, columns=group.stored_names(layout.names), use_threads=False)
    return with_keys(table, group)


def batches_of(file: Any, group: RowGroup, layout: TableLayout, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a row group of an open file in batches of at most `rows`, without partition keys."""
    _require_rows(file, group)
    with _faults(group):
        # With Arrow's threads: readers of one row group wait for each other, so that a light model on many cores would
        # wait for one thread that decodes. OMP_NUM_THREADS, which Dask sets for its workers, limits these too.
        yield from file.iter_batches(
            rows, row_groups=[group.number], columns=group.stored_names(layout.names), use_threads=SPREAD
        )


def with_keys(table: pa.Table, group: RowGroup) -> pa.Table:
    """Rows of a row group, under the names that are wanted, with the partition keys of its file as columns."""
    if group.renamed:
        wanted = {stored: name for name, stored in group.renamed}
        table = table.rename_columns([wanted.get(name, name) for name in table.column_names])
    for name, value in group.keys:
        if isinstance(value, str):
            table = table.append_column(name, pa.repeat(value, table.num_rows))
            continue
        column = pa.nulls(table.num_rows) if value is None else pa.array(np.full(table.num_rows, float(value)))
        table = table.append_column(name, column)
    return table


def describe(group: RowGroup) -> str:
    """A row group in words, for messages."""
    return f"row group {group.number} of Parquet file {group.path}"


def _require_rows(file: Any, group: RowGroup) -> None:
    footer = file.metadata
    if group.number >= footer.num_row_groups or footer.row_group(group.number).num_rows != group.rows:
        raise SourceChangedError(
            f"{describe(group)} no longer has {group.rows} rows; the file was rewritten: open it again"
        )


@contextmanager
def _faults(group: RowGroup) -> Iterator[None]:
    try:
        yield
    except SourceChangedError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read {describe(group)}: {error}") from error
