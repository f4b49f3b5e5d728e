"""`open_source`: from whatever the user has to a `Source`, by a table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamem.core.addresses import Address, address_of, as_address, is_address
from streamem.core.data_folders import table_around_local
from streamem.core.errors import ParameterError, SourceError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.foreign import full_source, is_source
from streamem.sources.inside import lies_inside
from streamem.sources.kinds import READABLE, READABLE_THERE, is_path, is_pattern, is_zarr_path, kind_of
from streamem.sources.options import ReadOptions


def _refuse_options(options: ReadOptions) -> None:
    given = [name for name in ("columns", "weight_column", "feature_axis") if getattr(options, name) is not None]
    if given:
        raise ParameterError(f"the source is open already, so {', '.join(given)} cannot change it; open it with them")


def open_source(
    data: Any,
    *,
    weight: Any = None,
    options: ReadOptions | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """Open anything that holds rows.

    Parameters
    ----------
    data : path, array, table or a `Source`
        ``.zarr`` (array or group, also in a ``.zip``), ``.npy``, ``.parquet`` (file or folder), ``.arrow``, ``.csv``,
        ``.orc``, ``.lance``; folders of Delta Lake, Iceberg, Icechunk and Hugging Face datasets; within ``.h5``,
        ``.h5ad``, ``.nc`` and ``.duckdb`` a path goes on (``x.h5/group/data``, ``x.duckdb/table``); a list of
        such paths, or a pattern, ``"folder/*.npy"``, whose files are read one after the other; NumPy array or memory
        map; zarr.Array or Group; Arrow table, dataset, or a function returning a RecordBatchReader; anything with
        ``__arrow_c_stream__`` (pandas, polars); xarray; Dask array or DataFrame; objects of
        deltalake, pyiceberg, lance, icechunk, datasets, h5py, netCDF4, h5netcdf and anndata, polars LazyFrames, DuckDB
        relations, Ibis tables. Zarr, Parquet, ``.npy``, CSV, ORC, Delta Lake, Iceberg and Lance also at an address
        (``s3://``, ``gs://``, ``az://``, ``https://``, ``memory://``), as an `Address` or a UPath.
    weight : sample weights
        A column name, an array of n values, or the path of a one-dimensional Zarr array or ``.npy`` file.
    options : how to read
    storage_options : settings of the store at an address, of weights there too; see `Address`

    Raises
    ------
    SourceError : nothing is there, or nothing that can be read as it lies (a part of a table of a lake)
    SchemaError : columns are missing or not numeric
    MissingDependencyError : the library of the format is not installed

    Examples
    --------
    Rows that fulfil a condition are those of a filtered Arrow dataset, which is scanned in every pass; its files may be
    of any size, and estimators take it like any other data.

    >>> import pyarrow as pa, pyarrow.dataset as ds
    >>> from streamem import open_source
    >>> people = ds.dataset(pa.table({"age": [20, 40, 60], "income": [1.0, 2.0, 3.0]}))
    >>> open_source(people.filter(ds.field("age") > 30)).n_rows
    2
    """
    if storage_options is not None:
        data = with_options(data, storage_options)
        weight = with_options(weight, storage_options) if is_address(weight) else weight
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
    """A path that other processes understand too, whatever folder they run in, and an `Address` of a UPath."""
    if isinstance(data, list | tuple) and data and hasattr(data[0], "storage_options"):
        return [as_address(item) for item in data]
    data = as_address(data)
    is_local = is_path(data) and not is_address(data) and (os.path.lexists(data) or lies_inside(data))
    return os.path.abspath(data) if is_local else data


def with_options(data: Any, storage_options: Mapping[str, Any]) -> Any:
    """Data at an address, or a list of addresses, with the options that their store needs.

    Raises
    ------
    ParameterError : data that lie at no address
    """
    if isinstance(data, list | tuple) and data:
        return [with_options(item, storage_options) for item in data]
    found = as_address(data)
    if not is_address(found):
        raise ParameterError(
            "storage_options are for data at an address such as s3://bucket/folder; leave them out for "
            f"{found if is_path(found) else type(found).__name__}"
        )
    return Address(os.fspath(found), storage_options)


def _open(data: Any, options: ReadOptions) -> Source:
    kind = kind_of(data)
    if kind is not None:
        is_here = is_path(data) and not is_address(data) and not is_pattern(data)
        if is_here and not Path(data).exists() and not lies_inside(data):
            raise SourceError(f"no such file or folder: {data}")
        return full_source(kind.open(data, options))
    if is_address(data):
        raise SourceError(
            f"{address_of(data)} holds nothing that can be read there; readable at addresses are {READABLE_THERE}: "
            "copy files of other formats to this machine"
        )
    if is_path(data):
        if (table := table_around_local(os.fspath(data))) is not None:
            raise SourceError(table.refusal(os.fspath(data)))
        found = "does not exist" if not Path(data).exists() else "is of no known format"
        raise SourceError(f"{data} {found}; readable are {READABLE}")
    raise ParameterError(f"cannot read rows from {type(data).__name__}; pass a path, an array, a table or a Source")


def is_weight_path(weight: str) -> bool:
    """Whether a text names a file of weights rather than a column."""
    return weight.endswith(".npy") or is_zarr_path(weight)
