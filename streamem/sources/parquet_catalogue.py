"""What the footers of a Parquet data set say together: one layout of columns, and all row groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from streamem.core.errors import SchemaError, SourceError
from streamem.sources.columns import Column, TableLayout, plan_columns
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_file_sets import FileSet
from streamem.sources.parquet_footers import FOOTERS, FOOTERS_AT_ONCE, faults, is_far, open_file, renew, store_of


@dataclass(frozen=True)
class RowGroup:
    """A row group as its footer describes it.

    Attributes
    ----------
    path, number, rows : the file, which of its row groups, and how many rows
    nbytes : the columns to read, compressed
    leaves, dictionaries : physical columns to read, and how many of them have a dictionary
    keys : partition columns
    renamed : columns that the file holds under another name: the name that is wanted, and the file's
    etag : of the file when its footer was read; "" where its store tells none, or no obstore reads it
    """

    path: str
    number: int
    rows: int
    nbytes: int
    leaves: int
    dictionaries: int
    keys: tuple[tuple[str, float | str | None], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    etag: str = ""

    def stored_names(self, names: Iterable[str]) -> list[str]:
        """Under which names the file holds columns; those that it has not are left out."""
        constants, stored = dict(self.keys), dict(self.renamed)
        return [stored.get(name, name) for name in names if name not in constants]

    def stored_layout(self, layout: TableLayout) -> TableLayout:
        """The columns of a layout that the file holds, under its own names."""
        if not self.keys and not self.renamed:
            return layout
        constants, stored = dict(self.keys), dict(self.renamed)

        def own(column: Column) -> Column:
            return replace(column, name=stored.get(column.name, column.name))

        weight = None if layout.weight is None or layout.weight.name in constants else own(layout.weight)
        columns = tuple(own(column) for column in layout.columns if column.name not in constants)
        return TableLayout(columns, weight, layout.dtype)


@dataclass(frozen=True)
class Catalogue:
    """What the footers of all files say together."""

    layout: TableLayout
    row_groups: tuple[RowGroup, ...]


def read_catalogue(files: FileSet, options: ReadOptions) -> Catalogue:
    """Read every footer, one at a time, and check that the files agree.

    Raises
    ------
    SchemaError : columns that are missing, not numeric, or not the same in all files
    SourceError : a file that is no Parquet, truncated or corrupt
    """
    renew(files.filesystem, files.paths)
    layout: TableLayout | None = None
    row_groups: list[RowGroup] = []
    for path, keys, file in zip(files.paths, files.keys, _described(files), strict=True):
        own = _own_layout(files, path, file.schema_arrow, options)
        layout = own if layout is None else _agreed(layout, own, files.paths[0], path)
        row_groups += row_groups_of(path, file, layout, keys)
    if layout is None:
        raise SourceError(f"{files.origin} holds no Parquet files")
    return Catalogue(layout, tuple(row_groups))


@dataclass(frozen=True)
class _Described:
    """What the footer of a file says, and its ETag."""

    metadata: pq.FileMetaData
    etag: str = ""

    @property
    def schema_arrow(self) -> pa.Schema:
        return self.metadata.schema.to_arrow_schema()


def _described(files: FileSet) -> Iterator[Any]:
    """The footers of files, in their order: of one after the other, or where each is a wait, of many at once."""
    if not is_far(files.filesystem):
        for path in files.paths:
            with open_file(files.filesystem, path) as file:
                yield file
        return
    with ThreadPoolExecutor(FOOTERS_AT_ONCE, "streamem-footers") as pool:
        coming: deque[Future[_Described]] = deque()
        for number, path in enumerate(files.paths):
            while len(coming) <= FOOTERS_AT_ONCE and (ahead := number + len(coming)) < len(files.paths):
                coming.append(pool.submit(_describe, files.filesystem, files.paths[ahead]))
            with faults(path):
                described = coming.popleft().result()
            yield described


def _describe(filesystem: pafs.FileSystem, path: str) -> _Described:
    if store_of(filesystem, path) is None:
        return _Described(FOOTERS.of(filesystem, path))
    return _Described(*FOOTERS.newest(filesystem, path))


def local_paths(filesystem: pafs.FileSystem, groups: Iterable[RowGroup]) -> tuple[str, ...]:
    """The files of row groups, where they lie on this machine."""
    return tuple(dict.fromkeys(group.path for group in groups)) if filesystem.type_name == "local" else ()


def stored_schema(files: FileSet) -> pa.Schema:
    """The columns of the first file, and the partition columns."""
    with open_file(files.filesystem, files.paths[0]) as file:
        stored = file.schema_arrow
    keys = [field for field in files.key_schema if field.name not in stored.names]
    return pa.schema([*stored, *keys], stored.metadata)


def _own_layout(files: FileSet, path: str, schema: pa.Schema, options: ReadOptions) -> TableLayout:
    keys = pa.schema([field for field in files.key_schema if field.name not in schema.names])
    held = partial(_size, files.filesystem, path)
    return plan_columns(schema, options, f"Parquet file {path}", selectable=keys, held=held)


def _size(filesystem: pafs.FileSystem, path: str) -> int:
    return int(filesystem.get_file_info(path).size or 0)


def _agreed(layout: TableLayout, own: TableLayout, first_path: str, path: str) -> TableLayout:
    """The layout of all files so far: the columns of the first file; numeric types may widen."""
    ours, theirs = ({column.name: column for column in each.read} for each in (layout, own))
    for name in sorted(ours.keys() ^ theirs.keys()):
        having, lacking = (first_path, path) if name in ours else (path, first_path)
        raise SchemaError(
            f"the Parquet files differ: column {name!r} ({(ours | theirs)[name].kind}) is in {having} and not in "
            f"{lacking}; choose columns that all files have with columns="
        )
    for name, column in ours.items():
        if column.size != theirs[name].size:
            raise SchemaError(
                f"the Parquet files differ: column {name!r} is {column.kind} in {first_path} and "
                f"{theirs[name].kind} in {path}; write them alike, or choose others with columns="
            )
    return layout.promoted(own)


def row_groups_of(path: str, file: Any, layout: TableLayout, keys: dict[str, Any]) -> list[RowGroup]:
    """The row groups of an open file, with what its footer says of the columns of a layout."""
    footer, stored, etag = file.metadata, set(file.schema_arrow.names), getattr(file, "etag", "")
    constants = tuple((name, keys.get(name)) for name in layout.names if name not in stored)
    leaves = leaves_of(footer.schema, layout)
    groups = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = [group.column(i) for i in leaves]
        _require_rows(path, number, group.num_rows, columns, layout)
        nbytes = sum(column.total_compressed_size for column in columns)
        dictionaries = sum(column.has_dictionary_page for column in columns)
        groups.append(RowGroup(path, number, group.num_rows, nbytes, len(columns), dictionaries, constants, etag=etag))
    return groups


def _require_rows(path: str, number: int, rows: int, columns: list[Any], layout: TableLayout) -> None:
    """Raise `SourceError` where columns of one value a row have another number of values than there are rows."""
    flat = {column.name for column in layout.read if column.size is None}
    for column in columns:
        if column.path_in_schema in flat and column.num_values != rows:
            raise SourceError(
                f"Parquet file {path} is corrupt: row group {number} claims {rows} rows, and {column.num_values} "
                f"values of column {column.path_in_schema!r}"
            )


def leaves_of(schema: Any, layout: TableLayout) -> list[int]:
    """Positions of the physical columns that the layout reads; a list column lies below its name."""
    names = set(layout.names)
    lists = tuple(f"{column.name}." for column in layout.read if column.size is not None)
    paths = [schema.column(i).path for i in range(len(schema))]
    return [i for i, path in enumerate(paths) if path in names or path.startswith(lists)]
