"""Rows of netCDF files, by xarray, which undoes their packing and reads slabs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Source
from streamem.machine.importing import import_whole
from streamem.sources.file_stamp import stamp
from streamem.sources.formats.libraries import faults, library
from streamem.sources.inside import split_inside
from streamem.sources.options import ReadOptions

ENGINES = ("h5netcdf", "netcdf4", "scipy")
"""Names that xarray has for what reads files; the library of netCDF keeps 64 MiB of chunks that nobody asks for again.
Classic files need SciPy alone."""


class NetcdfSource(Source):
    """Rows of variables of a file, as xarray reads them."""

    def __init__(self, base: Source, path: str) -> None:
        self._base, self._path = base, path
        self.schema, self.n_rows, self.row_shape = base.schema, base.n_rows, base.row_shape

    def fingerprint(self) -> str:
        """Size, time and last bytes of the file, and the features."""
        text = f"{self.schema.names}:{self.row_shape}:{self.schema.weighted}"
        state = stamp(pafs.LocalFileSystem(), [self._path], "netCDF file")
        return f"netCDF {state}, {self.n_rows} rows, {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def chunks(self) -> Sequence[ChunkRef]:
        """The plan of xarray's rows, in multiples of the stored chunks."""
        return self._base.chunks()


def open(data: Any, options: ReadOptions) -> Source:
    """A netCDF file (``x.nc``; a group or variable of it, ``x.nc/group/variable``), or an object of netCDF4 or
    h5netcdf, as xarray opens it: packing undone, missing values NaN.

    Raises
    ------
    SchemaError : variables that are missing, not numeric, or of unequal dimensions
    SourceError : the file cannot be read
    MissingDependencyError : neither netCDF4 nor h5netcdf is installed
    """
    path, found = opened(data)
    return NetcdfSource(import_whole("streamem.sources.xarray").open(found, options), path)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of any variable or coordinate of the rows."""
    pieces: Iterator[NDArray[Any]] = import_whole("streamem.sources.xarray").column_pieces(
        opened(data)[1], name, options
    )
    return pieces


def index_columns(data: Any, options: ReadOptions) -> list[str]:
    """The coordinates of the dimensions that become rows."""
    names: list[str] = import_whole("streamem.sources.xarray").index_columns(opened(data)[1], options)
    return names


def shape_of(data: Any, options: ReadOptions) -> tuple[int, ...] | None:
    """The axes of a variable that was named; None of a file."""
    found = opened(data)[1]
    return tuple(found.shape) if hasattr(found, "shape") else None


def opened(data: Any) -> tuple[str, Any]:
    """The path of a file, and the xarray Dataset, or DataArray, of what is meant in it."""
    path, group, variable = _place(data)
    what = f"netCDF file {path}"
    xarray = library("xarray", "netcdf", what)
    engine = _engine(xarray, path, what)
    with faults(f"read {what}"):
        if variable is None and group:
            group, variable = _group_or_variable(xarray, path, engine, group, what)
        dataset = xarray.open_dataset(path, engine=engine, group=group or None, cache=False, decode_times=False)
    if variable is None:
        return path, dataset
    if variable not in dataset:
        held = ", ".join(f"{name} {dict(v.sizes)}" for name, v in dataset.variables.items())
        raise SchemaError(f"{what} has no {'/'.join(filter(None, (group, variable)))!r}; it holds {held}")
    return path, dataset[variable]


def _place(data: Any) -> tuple[str, str, str | None]:
    """Path of the file, group in it, and the variable, if it is known to be one."""
    if hasattr(data, "__fspath__") or isinstance(data, str):
        found = split_inside(data)
        assert found is not None
        return found.file, found.name, None
    is_variable = hasattr(data, "dimensions") and hasattr(data, "shape")
    owner = (data.group() if hasattr(data, "group") else data._parent) if is_variable else data
    path = owner.filepath() if hasattr(owner, "filepath") else owner._root.filename
    within = str(getattr(owner, "path", getattr(owner, "name", "/"))).strip("/")
    return str(path), within, str(data.name).rpartition("/")[2] if is_variable else None


def _engine(xarray: Any, path: str, what: str) -> str:
    present = set(xarray.backends.list_engines())
    with faults(f"read {what}"), Path(path).open("rb") as file:
        classic = file.read(3) == b"CDF"
    usable = [name for name in (reversed(ENGINES) if classic else ENGINES[:2]) if name in present]
    return usable[0] if usable else str(library("h5netcdf", "netcdf", what).__name__)


def _group_or_variable(xarray: Any, path: str, engine: str, name: str, what: str) -> tuple[str, str | None]:
    parent, _, last = name.rpartition("/")
    with faults(f"read {what}"):
        try:
            with xarray.open_dataset(path, engine=engine, group=parent or None, decode_times=False) as dataset:
                if last in dataset.variables:
                    return parent, last
            xarray.open_dataset(path, engine=engine, group=name, decode_times=False).close()
        except (OSError, KeyError, ValueError):
            return parent, last
    return name, None
