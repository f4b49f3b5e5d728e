"""Rows from Parquet: a file, a folder (Hive partitions too), or the files of a pyarrow dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from streamem.core.chunk import Chunk
from streamem.core.errors import SourceChangedError, SourceError
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import Layout, require_column
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_files import (
    FileSet,
    RowGroup,
    find_files,
    open_file,
    read_catalogue,
    stamp,
    stored_schema,
)
from streamem.sources.plan import group_pieces


@dataclass(frozen=True)
class ParquetChunkRef:
    """One large row group, or several small ones that follow each other, of one file or of several."""

    filesystem: pafs.FileSystem
    row_groups: tuple[RowGroup, ...]
    layout: Layout
    index: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(group.rows for group in self.row_groups)

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, and the largest row group decoded and compressed: they are read one at a time."""
        decoded = self.layout.stored_row_nbytes
        return self.nbytes + max(group.rows * decoded + group.nbytes for group in self.row_groups)

    def load(self) -> Chunk:
        """Read the columns that are needed, row group by row group."""
        return gather(self.layout, self.rows, self._tables(), f"chunk {self.index}")

    def _tables(self) -> Iterator[pa.Table]:
        for path, groups in groupby(self.row_groups, key=lambda group: group.path):
            with open_file(self.filesystem, path) as file:
                for group in groups:
                    yield _read(file, group, self.layout)


def _read(file: Any, group: RowGroup, layout: Layout) -> pa.Table:
    what = f"row group {group.number} of Parquet file {group.path}"
    footer = file.metadata
    if group.number >= footer.num_row_groups or footer.row_group(group.number).num_rows != group.rows:
        raise SourceChangedError(f"{what} no longer has {group.rows} rows; the file was rewritten: open it again")
    constants = dict(group.keys)
    try:
        # A row group at a time, in this thread: two executor threads then hold two row groups, not a queue of them.
        table = file.read_row_group(
            group.number, columns=[name for name in layout.names if name not in constants], use_threads=False
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read {what}: {error}") from error
    for name, value in constants.items():
        if isinstance(value, str):
            table = table.append_column(name, pa.repeat(value, group.rows))
            continue
        column = np.full(group.rows, np.nan if value is None else float(value))
        table = table.append_column(name, pa.array(column))
    return table


class ParquetSource:
    """Rows of Parquet files; planned from their footers alone."""

    def __init__(self, files: FileSet, options: ReadOptions) -> None:
        if options.categories == "text":
            options = with_vocabularies(
                options, stored_schema(files), partial(column_of, files), f"Parquet data {files.origin}"
            )
        catalogue = read_catalogue(files, options)
        self._files, self._chunk_bytes = files, options.chunk_bytes
        self._layout, self._row_groups = catalogue.layout, catalogue.row_groups
        self.schema = self._layout.schema(files.origin)
        self.n_rows = sum(group.rows for group in self._row_groups)

    def fingerprint(self) -> str:
        """Names, sizes, modification times and footers of the files as they are now, and the columns read."""
        return f"parquet-{self.n_rows}-{stamp(self._files.filesystem, self._files.paths)}-{self._layout.stamp}"

    def chunks(self) -> Sequence[ParquetChunkRef]:
        """Row groups, neighbours joined up to `chunk_bytes`."""
        groups = self._row_groups
        refs: list[ParquetChunkRef] = []
        start = 0
        for index, pieces in enumerate(
            group_pieces([g.rows for g in groups], self._layout.row_nbytes, self._chunk_bytes)
        ):
            taken = tuple(groups[i] for i in pieces if groups[i].rows)
            refs.append(ParquetChunkRef(self._files.filesystem, taken, self._layout, index, start))
            start += refs[-1].rows
        return refs


def open(path: str | os.PathLike[str], options: ReadOptions) -> ParquetSource:
    """A Parquet file, or a folder with all Parquet files below it, sorted by path.

    The unit of reading is the row group. Without `columns`, every column of the files is a feature; the keys of a Hive
    partition (``year=2024/…``) can be chosen by name. The files must agree on the columns that are read. Their numeric
    types may differ: float32 in one and float64 in another are computed in float64.

    Raises
    ------
    SourceError : a file that is truncated, corrupt or no Parquet; a folder without Parquet files
    SchemaError : columns that are missing, not numeric, or not the same in all files
    """
    return ParquetSource(find_files(os.fspath(path)), options)


def column_pieces(path: str | os.PathLike[str], name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    return column_of(find_files(os.fspath(path)), name)


def column_of(files: FileSet, name: str) -> Iterator[pa.Array]:
    """The values of a column of all files, row group by row group."""
    for path, keys in zip(files.paths, files.keys, strict=True):
        with open_file(files.filesystem, path) as file:
            stored = file.schema_arrow.names
            require_column(name, [*stored, *files.key_schema.names], f"Parquet file {path}")
            for number in range(file.metadata.num_row_groups):
                if name in stored:
                    yield from file.read_row_group(number, columns=[name], use_threads=False).column(name).chunks
                else:
                    rows = file.metadata.row_group(number).num_rows
                    yield pa.repeat(pa.scalar(keys.get(name), files.key_schema.field(name).type), rows)
