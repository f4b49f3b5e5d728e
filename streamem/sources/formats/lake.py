"""Tables of Parquet files whose metadata say which files, which of their rows and which of their columns count."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.ports import Source
from streamem.sources.categories import with_vocabularies
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.formats.libraries import sound
from streamem.sources.options import ReadOptions
from streamem.sources.parquet import ParquetSource
from streamem.sources.parquet_catalogue import Catalogue, RowGroup, row_groups_of
from streamem.sources.parquet_file_sets import FileSet
from streamem.sources.parquet_footers import open_file, renew
from streamem.sources.wrapped import WrappedRef

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class LakeFile:
    """A data file of a table.

    Attributes
    ----------
    path : on the table's file system
    columns : under which names the file holds columns that it names otherwise
    constants : columns that are not in the file: the value of every row; None is missing
    deleted : positions of rows that do not count, or None
    """

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    deleted: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RowFilter:
    """A condition that rows have to fulfil.

    Attributes
    ----------
    names : columns that it looks at
    keeps : from a table of these columns to (n,) bool
    """

    names: tuple[str, ...]
    keeps: Callable[[pa.Table], NDArray[np.bool_]]


@dataclass(frozen=True)
class LakeTable:
    """One version of a table.

    Attributes
    ----------
    schema : its columns, as the table declares them
    files : in the order of its rows
    version : the table and its version, in words: part of the fingerprint
    keep_remedy : what keeps the files of a version from being removed
    condition : which rows are wanted; None for all
    looked_at : the columns of the condition, which need not be among those of `schema`
    """

    filesystem: pafs.FileSystem
    files: tuple[LakeFile, ...]
    schema: pa.Schema
    origin: str
    version: str
    keep_remedy: str
    condition: RowFilter | None = None
    looked_at: pa.Schema | None = None

    def type_of(self, name: str) -> pa.DataType:
        """The declared type of a column."""
        schema = self.schema if self.looked_at is None or name in self.schema.names else self.looked_at
        return schema.field(name).type


@dataclass(frozen=True, eq=False)
class LakeRef(WrappedRef):
    """A chunk of the files of a table, without the rows that do not count.

    Attributes
    ----------
    number, first, kept : position in the plan, first row, number of rows that count
    bits : (⌈rows / 8⌉,) a bit for every stored row, 1 where it counts; None where all do
    gone : what a file that is gone means, in words
    """

    number: int
    first: int
    kept: int
    bits: Bits | None
    row_nbytes: int
    gone: str

    @property
    def index(self) -> int:
        """Position in the plan."""
        return self.number

    @property
    def start(self) -> int:
        """First row among those that count."""
        return self.first

    @property
    def rows(self) -> int:
        """Number of rows that count."""
        return self.kept

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.kept * self.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The stored rows, and those that count beside them."""
        return self.base.load_nbytes + (0 if self.bits is None else self.nbytes)

    def load(self) -> Chunk:
        """Read the stored rows, and drop those that do not count.

        Raises
        ------
        SourceChangedError : a file of this version was removed
        """
        try:
            chunk = self.base.load()
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise SourceChangedError(f"{error}: {self.gone}") from error
            raise
        if self.bits is None:
            return chunk
        mask = np.unpackbits(self.bits, count=self.base.rows).astype(np.bool_)
        return Chunk(chunk.x[mask], None if chunk.weight is None else chunk.weight[mask])


class LakeSource(Source):
    """The rows of one version of a table, row group by row group."""

    def __init__(self, table: LakeTable, options: ReadOptions) -> None:
        options = with_vocabularies(options, table.schema, partial(column_of, table), table.origin)
        self._table, self._layout = table, plan_columns(table.schema, options, table.origin)
        groups, self._kept = _survey(table, self._layout)
        self._base = None
        if groups:
            files = FileSet(table.filesystem, tuple(file.path for file in table.files), (), pa.schema([]), table.origin)
            self._base = ParquetSource(files, options, Catalogue(self._layout, tuple(groups)))
        stored = [group.rows for group in groups]
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(stored, dtype=np.int64)])
        self.schema = self._layout.schema(table.origin)
        self.n_rows = sum(
            rows if bits is None else int(np.unpackbits(bits, count=rows).sum())
            for rows, bits in zip(stored, self._kept, strict=True)
        )

    def fingerprint(self) -> str:
        """The table, its version and its files, which are never rewritten; the columns that are read."""
        digest = hashlib.sha256()
        for file in self._table.files:
            digest.update(f"{file.path.rpartition('/')[2]};".encode())
        return f"{self._table.version} ({digest.hexdigest()[:12]}), {self.n_rows} rows of {self._layout.stamp}"

    def chunks(self) -> Sequence[LakeRef]:
        """The plan of the stored rows; chunks of which no row counts are left out."""
        refs: list[LakeRef] = []
        first = 0
        gone = f"{self._table.version} needs it, and it was removed while it was read; {self._table.keep_remedy}"
        for base in () if self._base is None else self._base.chunks():
            bits = self._bits(base.start, base.start + base.rows)
            kept = base.rows if bits is None else int(np.unpackbits(bits, count=base.rows).sum())
            if kept:
                own = None if kept == base.rows else bits
                refs.append(LakeRef(base, len(refs), first, kept, own, self._layout.row_nbytes, gone))
                first += kept
        return refs

    def _bits(self, start: int, stop: int) -> Bits | None:
        """Which of the stored rows start … stop − 1 count; None if all do."""
        a = int(np.searchsorted(self._starts, start, side="right")) - 1
        b = int(np.searchsorted(self._starts, stop))
        if all(bits is None for bits in self._kept[a:b]):
            return None
        masks = [_mask(self._kept[i], int(self._starts[i + 1] - self._starts[i])) for i in range(a, b)]
        offset = start - int(self._starts[a])
        return np.packbits(np.concatenate(masks)[offset : offset + stop - start])


def _mask(bits: Bits | None, rows: int) -> NDArray[np.bool_]:
    return np.ones(rows, np.bool_) if bits is None else np.unpackbits(bits, count=rows).astype(np.bool_)


def _survey(table: LakeTable, layout: TableLayout) -> tuple[list[RowGroup], list[Bits | None]]:
    """The row groups of all files, and which rows of each count: a bit for a row where some do not."""
    groups: list[RowGroup] = []
    kept: list[Bits | None] = []
    renew(table.filesystem, [file.path for file in table.files])
    for piece in _pieces(table, layout):
        mask = _counting(table, piece)
        groups.append(piece.group)
        kept.append(None if mask is None or mask.all() else np.packbits(mask))
    return groups, kept


@dataclass(frozen=True)
class _Piece:
    """A row group, its file, open, and the row of the file at which it begins."""

    group: RowGroup
    file: LakeFile
    opened: Any
    start: int


def _pieces(table: LakeTable, layout: TableLayout) -> Iterator[_Piece]:
    """Row group after row group."""
    for file in table.files:
        with _of_version(table), open_file(table.filesystem, file.path) as opened:
            start = 0
            for group in _groups_of(file, opened, layout):
                yield _Piece(group, file, opened, start)
                start += group.rows


def _groups_of(file: LakeFile, opened: Any, layout: TableLayout) -> list[RowGroup]:
    """The row groups of a file, which may hold the columns under other names, or lack some."""
    stored = set(opened.schema_arrow.names)
    own = {name: file.columns.get(name, name) for name in layout.names}
    absent = [name for name in own if own[name] not in stored or name in file.constants]
    columns = tuple(replace(column, name=own[column.name]) for column in layout.columns if column.name not in absent)
    weight = None if layout.weight is None or layout.weight.name in absent else layout.weight
    weight = None if weight is None else replace(weight, name=own[weight.name])
    keys = tuple((name, file.constants.get(name)) for name in absent)
    renamed = tuple((name, own[name]) for name in own if name != own[name] and name not in absent)
    there = TableLayout(columns, weight, layout.dtype)
    return [replace(group, keys=keys, renamed=renamed) for group in row_groups_of(file.path, opened, there, {})]


@contextlib.contextmanager
def _of_version(table: LakeTable) -> Iterator[None]:
    """Name the version of a table where one of its files is gone."""
    try:
        yield
    except SourceError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise SourceChangedError(
            f"{error}: {table.version} needs it, and it was removed; {table.keep_remedy}"
        ) from error


def _counting(table: LakeTable, piece: _Piece) -> NDArray[np.bool_] | None:
    """Which rows of a row group count; None if all do."""
    mask = None
    rows = piece.group.rows
    if piece.file.deleted is not None:
        a, b = np.searchsorted(piece.file.deleted, [piece.start, piece.start + rows])
        if a < b:
            mask = np.ones(rows, np.bool_)
            mask[piece.file.deleted[a:b] - piece.start] = False
    if table.condition is not None:
        found = table.condition.keeps(_columns(table, piece, table.condition.names))
        mask = found if mask is None else mask & found
    return mask


def _columns(table: LakeTable, piece: _Piece, names: Sequence[str]) -> pa.Table:
    """Columns of a row group in the types that the table declares, all stored rows."""
    file, opened = piece.file, piece.opened
    own = {name: file.columns.get(name, name) for name in names}
    held = {name for name in names if own[name] in opened.schema_arrow.names and name not in file.constants}
    read = opened.read_row_group(piece.group.number, columns=[own[name] for name in held], use_threads=False)
    columns = []
    for name in names:
        kind = table.type_of(name)
        if name in held:
            columns.append(sound(read.select([own[name]]), table.origin).column(0).cast(kind))
        else:
            columns.append(pa.repeat(pa.scalar(file.constants.get(name), kind), piece.group.rows))
    return pa.table(columns, names=list(names))


def column_of(table: LakeTable, name: str) -> Iterator[pa.Array]:
    """The values of a column, in the order of the rows that count.

    Raises
    ------
    SchemaError : there is no such column
    """
    require_column(name, table.schema.names, table.origin)
    for piece in _pieces(table, TableLayout((), None, np.dtype(np.float64))):
        values = _columns(table, piece, [name]).column(0)
        mask = _counting(table, piece)
        yield from (values if mask is None else values.filter(pa.array(mask))).chunks
