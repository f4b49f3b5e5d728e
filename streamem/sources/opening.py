"""`open_source`: from whatever the user has to a `Source`, by a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamem.core.data_folders import table_around_local
from streamem.core.errors import ParameterError, SourceError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.foreign import full_source, is_source
from streamem.sources.options import ReadOptions


@dataclass(frozen=True)
class Kind:
    """One row of the table: how to recognise a kind of data, and the module whose ``open(data, options)`` reads it.

    Modules are imported on first use, so that reading Parquet never imports Zarr.
    """

    name: str
    recognises: Callable[[Any], bool]
    module: str


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _refuse_options(options: ReadOptions) -> None:
    given = [name for name in ("columns", "weight_column", "feature_axis") if getattr(options, name) is not None]
    if given:
        raise ParameterError(f"the source is open already, so {', '.join(given)} cannot change it; open it with them")


def _is_path(data: Any) -> bool:
    return isinstance(data, str | os.PathLike)


def _has_suffix(data: Any, *suffixes: str) -> bool:
    return _is_path(data) and Path(data).name.endswith(suffixes)


def _is_zarr_path(data: Any) -> bool:
    if not _is_path(data):
        return False
    path = Path(data)
    markers = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")
    return (
        path.suffix == ".zarr"
        or any(part.endswith(".zarr") for part in path.parts)
        or any((path / marker).exists() for marker in markers)
    )


def _is_parquet_path(data: Any) -> bool:
    if not _is_path(data):
        return False
    path = Path(data)
    return _has_suffix(data, ".parquet", ".pq") or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)


KINDS: list[Kind] = [
    Kind("Zarr", lambda data: _library(data) == "zarr" or _is_zarr_path(data), "streamem.sources.zarr"),
    Kind("NumPy file", lambda data: _has_suffix(data, ".npy"), "streamem.sources.npy"),
    Kind("Parquet", _is_parquet_path, "streamem.sources.parquet"),
    Kind("Arrow file", lambda data: _has_suffix(data, ".arrow", ".feather"), "streamem.sources.arrow"),
    Kind("xarray", lambda data: _library(data) == "xarray", "streamem.sources.xarray"),
    Kind("Dask", lambda data: _library(data) in ("dask", "dask_expr"), "streamem.sources.dask"),
    Kind("Arrow", lambda data: _library(data) == "pyarrow", "streamem.sources.arrow"),
    Kind("Arrow stream", lambda data: hasattr(data, "__arrow_c_stream__"), "streamem.sources.arrow"),
    Kind("reader factory", callable, "streamem.sources.arrow"),
    Kind("array", lambda data: hasattr(data, "__array__"), "streamem.sources.array"),
]


def open_source(data: Any, *, weight: Any = None, options: ReadOptions | None = None) -> Source:
    """Open anything that holds rows.

    Parameters
    ----------
    data : path, array, table or a `Source`
        ``.zarr`` (array or group), ``.npy``, ``.parquet`` (file or folder), ``.arrow``; NumPy array or memory map;
        zarr.Array or Group; Arrow table, dataset, or a function returning a RecordBatchReader; anything with
        ``__arrow_c_stream__`` (pandas, polars); xarray; Dask array or DataFrame.
    weight : sample weights
        A column name, an array of n values, or the path of a one-dimensional Zarr array or ``.npy`` file.
    options : how to read

    Raises
    ------
    SourceError : nothing is there, or nothing that can be read as it lies (a table of Delta Lake, Iceberg or Hudi)
    SchemaError : columns are missing or not numeric
    """
    data, options = anywhere(data), options or ReadOptions()
    if isinstance(weight, str) and not is_weight_path(weight):
        options = replace(options, weight_column=weight)
        weight = None
    if is_source(data):
        _refuse_options(options)
    source = full_source(data) if is_source(data) else _open(data, options)
    if weight is None:
        return source
    module = import_whole("streamem.sources.weighted")
    weighted: Source = module.open(source, anywhere(weight))
    return weighted


def anywhere(data: Any) -> Any:
    """A path that other processes understand too, whatever folder they run in."""
    is_local = _is_path(data) and "://" not in str(data) and os.path.lexists(data)
    return os.path.abspath(data) if is_local else data


def module_of(data: Any) -> str | None:
    """The module that reads this kind of data, by the table."""
    return next((kind.module for kind in KINDS if kind.recognises(data)), None)


def _open(data: Any, options: ReadOptions) -> Source:
    for kind in KINDS:
        if kind.recognises(data):
            if _is_path(data) and "://" not in str(data) and not Path(data).exists():
                raise SourceError(f"no such file or folder: {data}")
            source: Source = import_whole(kind.module).open(data, options)
            return source
    if _is_path(data):
        if (table := table_around_local(os.fspath(data))) is not None:
            raise SourceError(table.refusal(os.fspath(data)))
        found = "does not exist" if not Path(data).exists() else "is of no known format"
        raise SourceError(f"{data} {found}; readable are .zarr, .npy, .parquet (file or folder) and .arrow")
    raise ParameterError(f"cannot read rows from {type(data).__name__}; pass a path, an array, a table or a Source")


def is_weight_path(weight: str) -> bool:
    """Whether a text names a file of weights rather than a column."""
    return weight.endswith(".npy") or _is_zarr_path(weight)
