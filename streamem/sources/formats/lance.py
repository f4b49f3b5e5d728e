"""Rows of Lance datasets: ranges of rows of one version, without those that were deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

import pyarrow as pa

from streamem.core.addresses import address_of, is_address
from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.sources.formats import flow, row_table
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults, library
from streamem.sources.formats.row_table import RowTable, RowTableSource
from streamem.sources.options import ReadOptions

KEEP = "keep those that cleanup_old_versions would remove for as long as a fit takes, or tag the one that is read"
BUFFER = 2**25
"""Bytes that Lance reads ahead; its default is two gibibytes."""


@dataclass(frozen=True)
class LanceRows(RowTable):
    """A version of a dataset.

    Attributes
    ----------
    uri, version, storage : what opens it anywhere
    made : when the version was made, which tells two datasets at one address apart
    held : the dataset, in the process that opened it
    """

    uri: str
    version: int
    made: str
    schema: pa.Schema
    n_rows: int
    storage: tuple[tuple[str, str], ...]
    held: Any = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return LanceRows, (self.uri, self.version, self.made, self.schema, self.n_rows, self.storage)

    @property
    def origin(self) -> str:
        """The dataset in words."""
        return f"Lance dataset {self.uri}"

    @property
    def hint(self) -> str:
        """What may have removed files."""
        return f"; version {self.version} is read: {KEEP}"

    def _opened(self) -> Any:
        return self.held if self.held is not None else opened(self.uri, self.version, self.storage)

    def batches(self, names: list[str], start: int, stop: int) -> Iterator[Any]:
        """A range of the rows that are left, in order."""
        scanner = self._opened().scanner(
            columns=names,
            offset=start,
            limit=stop - start,
            batch_size=min(stop - start, 8192),
            batch_readahead=1,
            fragment_readahead=1,
            scan_in_order=True,
            io_buffer_size=BUFFER,
        )
        yield from scanner.to_reader()

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder, if it lies on this machine."""
        return () if "://" in self.uri else (self.uri,)

    def stamp(self) -> str:
        """The version, which never changes."""
        return f"Lance dataset {self.uri.rstrip('/').rpartition('/')[2]} version {self.version} of {self.made}"


@lru_cache(maxsize=8)
def opened(uri: str, version: int, storage: tuple[tuple[str, str], ...]) -> Any:
    """A version of a dataset, opened once in a process."""
    lance = library("lance", "lance", f"Lance dataset {uri}")
    return lance.dataset(uri, version=version, storage_options=dict(storage) or None)


@dataclass(frozen=True, eq=False)
class ScannerRows(Flow):
    """A scanner, whose filter, order or search is pushed down."""

    scanner: Any
    origin: str = "the Lance scanner"

    def __reduce__(self) -> NoReturn:
        raise ParameterError("a Lance scanner cannot leave its process: on a cluster pass the dataset, or its path")

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        found: pa.Schema = self.scanner.projected_schema
        return found

    @property
    def identity(self) -> Any:
        """The object that is queried."""
        return id(self.scanner)

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order."""
        return "make the scanner with scan_in_order=True or order_by="

    def batches(self, names: list[str], rows: int) -> Iterator[Any]:
        """Scan once more."""
        yield from self.scanner.to_reader()


def table_of(data: Any) -> LanceRows | ScannerRows:
    """The version of a dataset that a path or an object means."""
    if hasattr(data, "to_reader") and not hasattr(data, "version"):
        return ScannerRows(data)
    is_path, storage = isinstance(data, str | os.PathLike), dict[str, str]()
    if is_address(data):
        storage = address_of(data).text_options
    shown = address_of(data) if is_address(data) else data
    what = f"Lance dataset {shown}" if is_path else "the Lance dataset"
    lance = library("lance", "lance", what)
    with faults(f"read {what}"):
        dataset = lance.dataset(os.fspath(data), storage_options=storage or None) if is_path else data
        given = dict(getattr(dataset, "_storage_options", None) or {})
        made = str(dataset.get_version()["timestamp"]) if hasattr(dataset, "get_version") else ""
        return LanceRows(
            *(str(dataset.uri), int(dataset.version), made, dataset.schema, int(dataset.count_rows())),
            *(tuple(sorted(given.items())), dataset),
        )


def open(data: Any, options: ReadOptions) -> Source:
    """A Lance dataset at the version that it has checked out, the path of one at its latest, or a scanner of one.

    Rows of a dataset are read by ranges, by several threads; a scanner (with a filter) is run in every pass.

    Raises
    ------
    SourceError : no dataset, or a version whose files were removed
    SchemaError : columns that are missing or not numeric
    MissingDependencyError : pylance is not installed
    """
    table = table_of(data)
    return RowTableSource(table, options) if isinstance(table, LanceRows) else flow.open_flow(table, options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    table = table_of(data)
    return row_table.column_of(table, name) if isinstance(table, LanceRows) else flow.column_of(table, name)
