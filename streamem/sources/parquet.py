"""Rows from Parquet: a file, a folder (Hive partitions too), or the files of a pyarrow dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from streamem.core.addresses import Address
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source
from streamem.sources import stored_index
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, require_column
from streamem.sources.file_stamp import digest_of, marks_now
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_catalogue import Catalogue, RowGroup, local_paths, read_catalogue, stored_schema
from streamem.sources.parquet_far import Held, fetch
from streamem.sources.parquet_file_sets import FileSet, all_files, find_files, listed_files
from streamem.sources.parquet_footers import SOUND_PAGES, is_far, open_file
from streamem.sources.parquet_parts import ParquetPartRef
from streamem.sources.parquet_reading import read_group
from streamem.sources.parquet_stream import RowRange
from streamem.sources.parquet_streams import GroupStreams
from streamem.sources.plan import even_step, group_pieces, most_rows, require_plannable
from streamem.sources.ranges import GAP_NBYTES
from streamem.sources.store_marks import Marks, differences


@dataclass(frozen=True)
class ParquetChunkRef(ChunkRef):
    """One row group, or several small ones that follow each other, of one file or of several."""

    filesystem: pafs.FileSystem
    row_groups: tuple[RowGroup, ...]
    layout: TableLayout
    index: int
    start: int
    held: Mapping[str, Held] = field(default_factory=dict, repr=False, compare=False)

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

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, of this machine."""
        return local_paths(self.filesystem, self.row_groups)

    def fetches(self) -> tuple[int, int]:
        """A request a file for its columns, which are held with gaps between them."""
        if not is_far(self.filesystem):
            return 0, 0
        nbytes = sum(group.nbytes + group.leaves * GAP_NBYTES for group in self.row_groups)
        return len({group.path for group in self.row_groups}), nbytes

    def fetched(self) -> ParquetChunkRef:
        """This handle with the stored columns in memory, where they come through a network."""
        if not is_far(self.filesystem):
            return self
        return replace(self, held=fetch(self.filesystem, self.row_groups, self.layout))

    def load(self) -> Chunk:
        """Read the columns that are needed, row group by row group."""
        return gather(self.layout, self.rows, self._tables(), f"chunk {self.index}")

    def _tables(self) -> Iterator[pa.Table]:
        for path, groups in groupby(self.row_groups, key=lambda group: group.path):
            held = self.held.get(path)
            with open_file(self.filesystem, path) if held is None else held.opened() as file:
                for group in groups:
                    names = group.stored_names(self.layout.names)
                    SOUND_PAGES.require(self.filesystem, path, file, group.number, names)
                    yield read_group(file, group, self.layout)


ParquetRef = ParquetChunkRef | ParquetPartRef


class ParquetSource(Source):
    """Rows of Parquet files; planned from their footers alone."""

    def __init__(self, files: FileSet, options: ReadOptions, catalogue: Catalogue | None = None) -> None:
        if files.key_schema.names and options.columns is None:  # of keys that the files hold too
            options = replace(options, left_out=(*options.left_out, *files.key_schema.names))
        if options.categories == "text":
            options = with_vocabularies(
                options, stored_schema(files), partial(column_of, files), f"Parquet data {files.origin}"
            )
        catalogue = catalogue or read_catalogue(files, options)
        self._files, self._chunk_bytes, self._in_order = files, options.chunk_bytes, options.in_order
        self._layout, self._row_groups = catalogue.layout, catalogue.row_groups
        self._known: np.ndarray[Any, Any] | None = None
        self.schema = self._layout.schema(files.origin)
        self.n_rows = sum(group.rows for group in self._row_groups)

    def fingerprint(self) -> str:
        """Names, sizes, modification times and footers of the files as they are now, and the columns read."""
        paths = self._files.paths
        told = list(marks_now(self._files.filesystem, paths))
        if self._known is None:
            marks = Marks()
            for path, mark in zip(paths, told, strict=True):
                marks.add(f"{path} {mark}")
            self._known = marks.known()
        return f"parquet-{self.n_rows}-{digest_of(paths, told)}-{self._layout.stamp}"

    def changes(self) -> str:
        """Which files are not what they were at the first fingerprint."""
        if self._known is None:
            return ""
        told = zip(self._files.paths, marks_now(self._files.filesystem, self._files.paths), strict=True)
        return differences(self._known, ((path, f"{path} {mark}") for path, mark in told))

    def chunks(self) -> Sequence[ParquetRef]:
        """Row groups: neighbours joined up to `chunk_bytes`, and those that are more than twice as large in parts."""
        refs: list[ParquetRef] = []
        start = 0
        for handle in self._handles(GroupStreams()):
            refs.append(handle(index=len(refs), start=start))
            start += refs[-1].rows
        return refs

    def _handles(self, streams: GroupStreams) -> Iterator[Callable[..., ParquetRef]]:
        most = most_rows(self._layout.row_nbytes, self._chunk_bytes)
        large = [group.rows for group in self._row_groups if self._in_order and group.rows > 2 * most]
        require_plannable(sum(-(-rows // most) for rows in large), sum(large), self._layout.row_nbytes)
        for cut, run in groupby(self._row_groups, key=lambda group: self._in_order and group.rows > 2 * most):
            groups = list(run)
            yield from self._parts(groups, most, streams) if cut else self._whole(groups)

    def _parts(self, groups: list[RowGroup], most: int, streams: GroupStreams) -> Iterator[Callable[..., ParquetRef]]:
        for group in groups:
            step = even_step(group.rows, most)
            for first in range(0, group.rows, step):
                part = RowRange(first, min(step, group.rows - first), step)
                yield partial(ParquetPartRef, self._files.filesystem, group, part, self._layout, streams=streams)

    def _whole(self, groups: list[RowGroup]) -> Iterator[Callable[..., ParquetRef]]:
        for pieces in group_pieces([g.rows for g in groups], self._layout.row_nbytes, self._chunk_bytes):
            taken = tuple(groups[i] for i in pieces if groups[i].rows)
            yield partial(ParquetChunkRef, self._files.filesystem, taken, self._layout)


def open(path: str | os.PathLike[str], options: ReadOptions) -> ParquetSource:
    """A Parquet file, or a folder with all Parquet files below it, sorted by path.

    The unit of reading is the row group; one of more than twice `chunk_bytes` is read in parts, unless chunks are not
    wanted `in_order`. Without `columns`, every column of the files is a feature but for the index of a DataFrame; that,
    and the keys of a Hive partition (``year=2024/…``), can be chosen by name. Of a key that the files hold too, their
    values count, not those of the folders. The files must agree on the columns that
    are read. Their numeric types may differ: float32 in one and float64 in another are computed in float64.

    Raises
    ------
    SourceError : a file that is truncated, corrupt or no Parquet; a folder without Parquet files
    SchemaError : columns that are missing, not numeric, or not the same in all files
    """
    return ParquetSource(find_files(_place(path)), options)


def _place(path: str | os.PathLike[str]) -> str | Address:
    return path if isinstance(path, Address) else os.fspath(path)


def open_all(paths: Sequence[str | Address], options: ReadOptions, origin: str) -> ParquetSource:
    """Files and folders of Parquet as one table, in their order.

    Raises
    ------
    SourceError : as `open`, and files that lie in several places (on this machine and in a store)
    SchemaError : as `open`
    """
    return ParquetSource(all_files(paths, origin), options)


def open_listed(addresses: Sequence[Address], options: ReadOptions, origin: str) -> ParquetSource:
    """Files of one store that a listing has just found, as one table, in their order.

    Raises
    ------
    SourceError : as `open`
    SchemaError : as `open`
    """
    return ParquetSource(listed_files(addresses, origin), options)


def column_pieces(path: str | os.PathLike[str], name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    return column_of(find_files(_place(path)), name)


def index_columns(path: str | os.PathLike[str], options: ReadOptions) -> list[str]:
    """The index of the DataFrame that was written."""
    files = find_files(_place(path))
    with open_file(files.filesystem, files.paths[0]) as file:
        return stored_index.index_columns(file.schema_arrow)


def column_of(files: FileSet, name: str) -> Iterator[pa.Array]:
    """The values of a column of all files, row group by row group."""
    for path, keys in zip(files.paths, files.keys, strict=True):
        with open_file(files.filesystem, path) as file:
            stored = file.schema_arrow.names
            require_column(name, [*stored, *files.key_schema.names], f"Parquet file {path}")
            for number in range(file.metadata.num_row_groups):
                if name in stored:
                    SOUND_PAGES.require(files.filesystem, path, file, number, [name])
                    yield from file.read_row_group(number, columns=[name], use_threads=False).column(name).chunks
                else:
                    rows = file.metadata.row_group(number).num_rows
                    yield pa.repeat(pa.scalar(keys.get(name), files.key_schema.field(name).type), rows)
