"""Rows from whatever speaks Arrow: tables, datasets, IPC files, readers, pandas and polars DataFrames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from streamem.core.errors import ParameterError, SchemaError, SourceError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources import arrow_file, arrow_reader, parquet, stored_index
from streamem.sources.arrow_file import IpcSource
from streamem.sources.arrow_reader import ReaderSource
from streamem.sources.arrow_table import TableSource
from streamem.sources.categories import with_vocabularies
from streamem.sources.columns import plan_columns, require_column
from streamem.sources.file_stamp import stamp
from streamem.sources.frames import frame_column, frame_schema, frame_table, index_names, is_named
from streamem.sources.options import ReadOptions
from streamem.sources.parquet import ParquetSource
from streamem.sources.parquet_file_sets import of_dataset, require_plain_files
from streamem.sources.parquet_footers import renew


def open(data: Any, options: ReadOptions) -> Source:
    """An Arrow table, record batch, dataset, IPC file, or anything that gives Arrow streams.

    Tables and DataFrames (pandas, polars) in memory are cut evenly, without a copy where Arrow can. A dataset of
    plain Parquet files is read as these are; any other, and any other stream, from its beginning to its end in every
    pass, once more while planning to count its rows. A function must return a new reader of the same rows at every
    call.

    Raises
    ------
    ParameterError : a stream that can be read once only, a Series, or something that is no Arrow data
    SchemaError : columns that are missing or not numeric
    SourceError : a file or stream that cannot be read
    """
    if isinstance(data, str | os.PathLike):
        return IpcSource(os.fspath(data), options)
    if isinstance(data, ds.Dataset):
        return _open_dataset(data, options)
    if isinstance(data, pa.RecordBatchReader | ds.Scanner):
        raise ParameterError(
            f"a {type(data).__name__} can be read once, EM reads its data many times: pass a function that returns a "
            "new reader at every call, or the table itself"
        )
    if _is_frame(data):
        return _open_pandas(data, options)
    if (table := _as_table(data)) is not None:
        return _open_table(table, options, f"the {_describe(data)}")
    if hasattr(data, "__arrow_c_stream__") and not (isinstance(data, pa.ChunkedArray) or hasattr(data, "to_frame")):
        return ReaderSource(_StreamOf(data), options, f"the Arrow stream of {_describe(data)}")
    if callable(data):
        return ReaderSource(data, options, f"the reader of {getattr(data, '__name__', type(data).__name__)}()")
    raise ParameterError(f"{_describe(data)} has no columns; pass a table, for example with to_frame()")


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    if isinstance(data, str | os.PathLike):
        return arrow_file.column_of(os.fspath(data), name)
    if isinstance(data, ds.Dataset):
        return _dataset_column(data, name)
    if _is_frame(data):
        return iter([frame_column(data, name, "the pandas DataFrame")])
    if (table := _as_table(data)) is not None:
        require_column(name, table.column_names, f"the {_describe(data)}")
        return iter(_sound_column(table, name, f"the {_describe(data)}"))
    started = data if callable(data) and not hasattr(data, "__arrow_c_stream__") else _StreamOf(data)
    return arrow_reader.column_of(started, name, f"the Arrow stream of {_describe(data)}")


def index_columns(data: Any, options: ReadOptions) -> list[str]:
    """The index of a pandas DataFrame, or of the frame that a table was made of."""
    if _is_frame(data):
        return index_names(data.index)
    if isinstance(data, str | os.PathLike) or callable(data):
        return []
    schema = data.schema if isinstance(data, ds.Dataset | pa.Table | pa.RecordBatch) else None
    return [] if schema is None else stored_index.index_columns(schema)


def _dataset_column(dataset: Any, name: str) -> Iterator[pa.Array]:
    if _is_plain_parquet(dataset):
        return parquet.column_of(of_dataset(dataset, "the Parquet dataset"), name)
    require_column(name, dataset.schema.names, "the Arrow dataset")
    return arrow_reader.column_of(_ScanOf(dataset, (name,)), name, "the Arrow dataset")


@dataclass(frozen=True)
class _StreamOf:
    """Starts a new stream of an object at every call."""

    data: Any

    def __call__(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_stream(self.data)


@dataclass(frozen=True)
class _ScanOf:
    """Starts a new scan of a dataset at every call."""

    dataset: Any
    names: tuple[str, ...]

    def __call__(self) -> pa.RecordBatchReader:
        # By default a scan reads many fragments ahead, which costs several times the memory of what is asked for.
        scanner = self.dataset.scanner(
            columns=list(self.names), batch_readahead=1, fragment_readahead=1, use_threads=False
        )
        return scanner.to_reader()


def _describe(data: Any) -> str:
    return f"{type(data).__module__.partition('.')[0]} {type(data).__name__}"


def _is_frame(data: Any) -> bool:
    """A pandas DataFrame, or a subclass of another library."""
    return all(hasattr(data, name) for name in ("iloc", "dtypes", "columns"))


def _as_table(data: Any) -> pa.Table | None:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.startswith("polars.") and hasattr(data, "columns"):
        return _of_polars(data)
    return None


def _of_polars(frame: Any) -> pa.Table:
    """A polars DataFrame as a table; integers of 128 bits, which Arrow has not, as float64.

    Raises
    ------
    SchemaError : a column of a type that Arrow has not
    """
    wide = {name: kind for name, kind in frame.schema.items() if str(kind) in ("Int128", "UInt128")}
    try:
        return pa.table(frame.cast(dict.fromkeys(wide, import_whole("polars").Float64)) if wide else frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(f"the polars DataFrame: a column is of a type that Arrow has not: {error}") from error


def _open_table(table: pa.Table, options: ReadOptions, origin: str) -> Source:
    options = with_vocabularies(options, table.schema, lambda name: _sound_column(table, name, origin), origin)
    layout = plan_columns(table.schema, options, origin, held=table.get_total_buffer_size)
    _require_sound(table.select(layout.names), origin)
    return TableSource(table, layout, options, origin)


def _sound_column(table: pa.Table, name: str, origin: str) -> list[pa.Array]:
    _require_sound(table.select([name]), origin)
    chunks: list[pa.Array] = table.column(name).chunks
    return chunks


def _require_sound(table: pa.Table, origin: str) -> None:
    """Refuse columns that are not what they claim: columns may come from anywhere, and readers believe all counts."""
    with _damage(origin):
        table.validate(full=True)


@contextlib.contextmanager
def _damage(origin: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise SourceError(f"{origin} is damaged, its values must not be read: {error}") from error


def _open_pandas(frame: Any, options: ReadOptions) -> Source:
    origin = "the pandas DataFrame"
    schema = frame_schema(frame, options, origin)
    options = with_vocabularies(options, schema, lambda name: [frame_column(frame, name, origin)], origin)
    layout = plan_columns(schema, options, origin)
    with _damage(origin):  # pandas keeps Arrow's columns as they came
        table = frame_table(frame, layout.names)
        table.validate(full=True)
    return TableSource(table, layout, options, origin, is_named(frame))


def _open_dataset(dataset: Any, options: ReadOptions) -> Source:
    require_plain_files(dataset)
    if isinstance(dataset, ds.FileSystemDataset):
        renew(dataset.filesystem, dataset.files)
    if _is_plain_parquet(dataset):
        return ParquetSource(of_dataset(dataset, "the Parquet dataset"), options)
    origin = "the Arrow dataset"
    keys = _key_names(dataset)
    own = pa.schema([field for field in dataset.schema if field.name not in keys], dataset.schema.metadata)
    wanted = own if options.columns is None else dataset.schema
    options = with_vocabularies(options, wanted, partial(_dataset_column, dataset), origin)
    layout = plan_columns(own, options, origin, selectable=dataset.schema)
    chosen = replace(options, columns=tuple(column.name for column in layout.columns))
    return ReaderSource(_ScanOf(dataset, tuple(layout.names)), chosen, origin, partial(_files_stamp, dataset))


def _files_stamp(dataset: Any) -> str:
    """A stamp of the files of a dataset, or of the datasets that it unites; "" of a dataset in memory."""
    if isinstance(dataset, ds.FileSystemDataset):
        return stamp(dataset.filesystem, dataset.files, "file") if dataset.files else ""
    return ":".join(_files_stamp(child) for child in getattr(dataset, "children", ()))


def _key_names(dataset: Any) -> set[str]:
    """The partition columns."""
    partitioning = getattr(dataset, "partitioning", None)
    return set() if partitioning is None else set(partitioning.schema.names)


def _is_plain_parquet(dataset: Any) -> bool:
    """Parquet files as they are: no filter, no subset of row groups, the files' own types."""
    if not isinstance(dataset, ds.FileSystemDataset) or not isinstance(dataset.format, ds.ParquetFileFormat):
        return False
    try:
        fragments = list(dataset.get_fragments())
    except ValueError:  # a filtered dataset keeps its fragments to itself
        return False
    keys = _key_names(dataset)
    own = {field for field in dataset.schema if field.name not in keys}
    try:
        return all(
            len(fragment.row_groups) == fragment.metadata.num_row_groups and set(fragment.physical_schema) == own
            for fragment in fragments
        )
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"the files of the Parquet dataset cannot be read: {error}") from error
