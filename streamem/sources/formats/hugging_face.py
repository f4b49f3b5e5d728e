"""Rows of Hugging Face datasets: Arrow tables on disk with an order of their own, and streams that start anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.sources.columns import TableLayout
from streamem.sources.formats import flow, row_table
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults, library
from streamem.sources.formats.row_table import RowTable, RowTableSource
from streamem.sources.options import ReadOptions


@dataclass(frozen=True, eq=False)
class HuggingFaceRows(RowTable):
    """A dataset as it lies: memory-mapped files, with the rows that were selected, filtered or shuffled."""

    dataset: Any
    origin: str

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.dataset.features.arrow_schema

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """A slice as an Arrow table, of the wanted columns only."""
        yield self.dataset.select_columns(names).with_format("arrow")[start:stop]

    def reading_nbytes(self, layout: TableLayout, rows: int) -> int:
        """Rows that were shuffled or filtered are copied; others lie in the mapped files."""
        return 2 * rows * layout.stored_row_nbytes

    def stamp(self) -> str:
        """The library's own fingerprint, of the data and of every step since."""
        return f"Hugging Face dataset {self.dataset._fingerprint}"


@dataclass(frozen=True, eq=False)
class HuggingFaceStream(Flow):
    """An IterableDataset."""

    dataset: Any
    origin: str = "the Hugging Face IterableDataset"

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, of the first rows where they are not declared."""
        if self.dataset.features is not None:
            return self.dataset.features.arrow_schema
        with faults(f"find the columns of {self.origin}"):
            first = next(iter(self.dataset.with_format("arrow").iter(1)), None)
        return pa.schema([]) if first is None else first.schema

    @property
    def identity(self) -> Any:
        """The object that is queried."""
        return id(self.dataset)

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order."""
        return "leave out shuffle(), or give it a seed"

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Read it anew."""
        yield from self.dataset.select_columns(names).with_format("arrow").iter(rows)


def table_of(data: Any) -> HuggingFaceRows | HuggingFaceStream:
    """What a path of `save_to_disk`, or an object, means."""
    is_path = isinstance(data, str | os.PathLike)
    what = f"Hugging Face dataset {os.fspath(data)}" if is_path else "the Hugging Face dataset"
    datasets = library("datasets", "datasets", what)
    with faults(f"read {what}"):
        found = datasets.load_from_disk(os.fspath(data)) if is_path else data
    if isinstance(found, dict):
        splits = ", ".join(map(repr, found))
        each = f"{os.fspath(data)}/{next(iter(found), '')}" if is_path else f"dataset[{next(iter(found), '')!r}]"
        raise ParameterError(f"{what} has the splits {splits}; pass one of them, {each}")
    if not hasattr(found, "__len__"):
        return HuggingFaceStream(found)
    return HuggingFaceRows(found, what)


def open(data: Any, options: ReadOptions) -> Source:
    """A datasets.Dataset, one that `save_to_disk` wrote, or an IterableDataset, which is read anew in every pass.

    Raises
    ------
    ParameterError : a DatasetDict, of which one split has to be named
    SchemaError : columns that are missing or not numeric
    MissingDependencyError : datasets is not installed
    """
    table = table_of(data)
    return RowTableSource(table, options) if isinstance(table, HuggingFaceRows) else flow.open_flow(table, options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    table = table_of(data)
    return row_table.column_of(table, name) if isinstance(table, HuggingFaceRows) else flow.column_of(table, name)
