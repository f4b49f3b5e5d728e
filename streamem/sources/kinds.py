"""The kinds of data that hold rows: a table, to which anybody may add."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamem.core.addresses import address_of, is_address
from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.inside import split_inside
from streamem.sources.options import ReadOptions
from streamem.sources.store_listing import holds_parquet, is_folder, names_in

ZARR_MARKERS = frozenset({"zarr.json", ".zarray", ".zgroup", ".zmetadata"})
PARQUET_SUFFIXES = (".parquet", ".pq")

CSV_SUFFIXES = tuple(
    f"{name}{packed}" for name in (".csv", ".tsv", ".tab") for packed in ("", ".gz", ".bz2", ".zst", ".lz4")
)


class SourceKind(ABC):
    """One kind of data: how it is recognised, and how its rows are read. `register` makes it known.

    Handles (`ChunkRef`) of what `open` returns travel to the workers of a cluster, where their module has to be
    importable. Errors that a user may meet are those of `streamem.core.errors`.

    Attributes
    ----------
    name : the kind in words
    has_arrays_beside : whether `lengths`, `offsets` and weights may be names of arrays stored beside the data
    """

    name: str
    has_arrays_beside: bool = False

    @abstractmethod
    def recognises(self, data: Any) -> bool:
        """Whether data, a path or an object, is of this kind. Costs little: every call that opens data asks it."""

    @abstractmethod
    def open(self, data: Any, options: ReadOptions) -> Source:
        """The rows of data, read as the options say; options that the kind does not know are refused.

        Raises
        ------
        SourceError, SchemaError : nothing that can be read is there, or no numbers
        """

    def shape_of(self, data: Any, options: ReadOptions) -> tuple[int, ...] | None:
        """The axes of an array; None of a table. An array of three axes is sequences × steps × features."""
        return None

    def column_reader(self, data: Any, name: str, options: ReadOptions) -> Callable[[], Iterable[Any]] | None:
        """A function that reads a column by name, piece by piece in order; None where columns have no names.

        `open_sequences` reads with it what identifies sequences, and their weights. Pieces are Arrow or NumPy arrays.
        """
        return None

    def index_columns(self, data: Any, options: ReadOptions) -> Sequence[str]:
        """Names by which `column_reader` finds what identifies each row: the index of a table, coordinates of a grid.

        An index that only counts rows from 0 is none.
        """
        return ()


class BuiltIn(SourceKind):
    """A kind that a module of this room reads; it is imported on first use, so reading Parquet never imports Zarr."""

    def __init__(
        self, name: str, recognises: Callable[[Any], bool], module: str, has_arrays_beside: bool = False
    ) -> None:
        self.name, self._recognises, self.has_arrays_beside = name, recognises, has_arrays_beside
        self._module = f"streamem.sources.{module}"

    def recognises(self, data: Any) -> bool:
        """What the table says."""
        return self._recognises(data)

    def open(self, data: Any, options: ReadOptions) -> Source:
        """The module's ``open``."""
        source: Source = import_whole(self._module).open(data, options)
        return source

    def shape_of(self, data: Any, options: ReadOptions) -> tuple[int, ...] | None:
        """The module's ``shape_of``, where it reads arrays."""
        look = getattr(import_whole(self._module), "shape_of", None)
        return None if look is None else look(data, options)

    def column_reader(self, data: Any, name: str, options: ReadOptions) -> Callable[[], Iterable[Any]] | None:
        """The module's ``column_pieces``, where it reads columns."""
        read = getattr(import_whole(self._module), "column_pieces", None)
        return None if read is None else lambda: read(data, name, options)

    def index_columns(self, data: Any, options: ReadOptions) -> Sequence[str]:
        """The module's ``index_columns``, where its data may have an index."""
        look = getattr(import_whole(self._module), "index_columns", None)
        return () if look is None else tuple(look(data, options))


def register(kind: SourceKind) -> None:
    """Make a kind of data known to `open_source`, `open_sequences`, every estimator and the command line.

    The kinds that were registered last are asked first, before the built-in ones; one of the same name is replaced.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import open_source
    >>> from streamem.sources import SourceKind, register, unregister
    >>> class Numbered(SourceKind):
    ...     name = "numbered"
    ...     def recognises(self, data): return isinstance(data, range)
    ...     def open(self, data, options): return open_source(np.array(data, dtype=float)[:, None], options=options)
    >>> register(Numbered())
    >>> open_source(range(5)).n_rows
    5
    >>> unregister("numbered")
    """
    if not isinstance(kind, SourceKind):
        raise ParameterError(f"{kind!r} is no SourceKind; pass an object of a subclass")
    unregister(kind.name)
    REGISTERED.insert(0, kind)


def unregister(name: str) -> None:
    """Forget a kind that was registered under a name, if any was.

    Examples
    --------
    >>> unregister("a name that nobody registered")
    """
    REGISTERED[:] = [kind for kind in REGISTERED if kind.name != name]


def kind_of(data: Any) -> SourceKind | None:
    """The kind of data by the tables; None of data that none of them knows."""
    if type(data) is np.ndarray and not REGISTERED:
        return ARRAY  # as the table says, in a twentieth of the time: services ask about one row after the other
    return next((kind for kind in (*REGISTERED, *KINDS) if kind.recognises(data)), None)


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def is_path(data: Any) -> bool:
    return isinstance(data, str | os.PathLike)


def is_path_list(data: Any) -> bool:
    """Whether data is a list of paths of files that are read one after the other."""
    return isinstance(data, list | tuple) and len(data) > 0 and all(map(is_path, data))


def is_pattern(data: Any) -> bool:
    """Whether data is a pattern that names files, and not the very name of one."""
    if not is_path(data):
        return False
    name = os.fspath(data)
    return "*" in name if "://" in name else any(sign in name for sign in "*?[") and not os.path.lexists(name)


def _has_suffix(data: Any, *suffixes: str) -> bool:
    return is_path(data) and Path(data).name.endswith(suffixes)


def is_zarr_path(data: Any) -> bool:
    if not is_path(data):
        return False
    path = Path(data)
    if path.suffix in (".zarr", ".zip") or any(part.endswith(".zarr") for part in path.parts):
        return True
    if is_address(data):
        return _is_folder_address(data) and not ZARR_MARKERS.isdisjoint(names_in(address_of(data)))
    return any((path / marker).exists() for marker in ZARR_MARKERS)


def _is_folder_address(data: Any) -> bool:
    """Whether an address may be that of a folder whose kind only its content tells: one without a suffix."""
    address = address_of(data)
    return address.scheme not in ("http", "https") and not Path(address.text).suffix


def _is_parquet_path(data: Any) -> bool:
    if not is_path(data):
        return False
    if _has_suffix(data, *PARQUET_SUFFIXES):
        return True
    if is_address(data):
        return _is_folder_address(data) and holds_parquet(address_of(data))
    path = Path(data)
    return path.is_dir() and next(path.rglob("*.parquet"), None) is not None


def _holds(data: Any, *names: str) -> bool:
    """Whether data is the path of a folder with all of these in it."""
    return is_path(data) and "://" not in str(data) and all((Path(data) / name).exists() for name in names)


def _is_delta_path(data: Any) -> bool:
    if is_path(data) and is_address(data):
        return _is_folder_address(data) and is_folder(address_of(data).below("_delta_log"))
    return _holds(data, "_delta_log")


def _is_iceberg_path(data: Any) -> bool:
    if _has_suffix(data, ".metadata.json"):
        return True
    if is_path(data) and is_address(data):
        names = names_in(address_of(data).below("metadata")) if _is_folder_address(data) else ()
        return any(name.endswith(".metadata.json") for name in names)
    return _holds(data, "metadata") and any((Path(data) / "metadata").glob("*.metadata.json*"))


def _is_icechunk_path(data: Any) -> bool:
    return _holds(data, "snapshots", "refs") or _holds(data, "snapshots", "repo")


def _lies_in(data: Any, *suffixes: str) -> bool:
    """Whether data is the path of such a file, or of something within one."""
    return is_path(data) and "://" not in str(data) and split_inside(data, suffixes) is not None


def _is_a(data: Any, library: str, *names: str) -> bool:
    """Whether data is an object of a library, of one of these classes or of one that inherits from them."""
    kinds = [kind for kind in type(data).__mro__ if kind.__module__.partition(".")[0] in (library, f"_{library}")]
    return any(not names or kind.__name__ in names for kind in kinds)


ZARR = BuiltIn("Zarr", lambda data: _library(data) == "zarr" or is_zarr_path(data), "zarr", has_arrays_beside=True)
PARQUET = BuiltIn("Parquet", _is_parquet_path, "parquet")
ARRAY = BuiltIn("array", lambda data: hasattr(data, "__array__"), "array")
KINDS: list[SourceKind] = [
    BuiltIn("several files", lambda data: is_path_list(data) or is_pattern(data), "many_paths"),
    BuiltIn("Delta Lake", lambda data: _is_a(data, "deltalake") or _is_delta_path(data), "formats.delta"),
    BuiltIn("Apache Iceberg", lambda data: _is_a(data, "pyiceberg") or _is_iceberg_path(data), "formats.iceberg"),
    BuiltIn("Icechunk", lambda data: _is_a(data, "icechunk") or _is_icechunk_path(data), "formats.icechunk"),
    BuiltIn("Lance", lambda data: _is_a(data, "lance") or _has_suffix(data, ".lance"), "formats.lance"),
    BuiltIn(
        "Hugging Face datasets",
        lambda data: (
            _is_a(data, "datasets")
            or _holds(data, "state.json", "dataset_info.json")
            or _holds(data, "dataset_dict.json")
        ),
        "formats.hugging_face",
    ),
    BuiltIn("AnnData", lambda data: _is_a(data, "anndata", "AnnData") or _lies_in(data, ".h5ad"), "formats.anndata"),
    BuiltIn(
        "netCDF",
        lambda data: _is_a(data, "netCDF4") or _is_a(data, "h5netcdf") or _lies_in(data, ".nc", ".nc4", ".cdf"),
        "formats.netcdf",
    ),
    BuiltIn("HDF5", lambda data: _is_a(data, "h5py") or _lies_in(data, ".h5", ".hdf5", ".he5"), "formats.hdf5"),
    BuiltIn("CSV", lambda data: _has_suffix(data, *CSV_SUFFIXES), "formats.csv"),
    BuiltIn("ORC", lambda data: _has_suffix(data, ".orc"), "formats.orc"),
    BuiltIn(
        "DuckDB",
        lambda data: _is_a(data, "duckdb", "DuckDBPyRelation") or _lies_in(data, ".duckdb", ".ddb"),
        "formats.duckdb",
    ),
    BuiltIn("polars LazyFrame", lambda data: _is_a(data, "polars", "LazyFrame"), "formats.polars_lazy"),
    BuiltIn("Ibis", lambda data: _is_a(data, "ibis"), "formats.ibis"),
    ZARR,
    BuiltIn("NumPy file", lambda data: _has_suffix(data, ".npy"), "npy"),
    PARQUET,
    BuiltIn("Arrow file", lambda data: _has_suffix(data, ".arrow", ".feather") and not is_address(data), "arrow"),
    BuiltIn("xarray", lambda data: _library(data) == "xarray", "xarray"),
    BuiltIn("Dask", lambda data: _library(data) in ("dask", "dask_expr"), "dask"),
    BuiltIn("Arrow", lambda data: _library(data) == "pyarrow", "arrow"),
    BuiltIn("Arrow stream", lambda data: hasattr(data, "__arrow_c_stream__"), "arrow"),
    BuiltIn("reader factory", callable, "arrow"),
    ARRAY,
]
REGISTERED: list[SourceKind] = []
READABLE = (
    ".zarr, .npy, .parquet (file or folder), .arrow, .csv, .orc, .h5, .h5ad, .nc, .duckdb, .lance, and folders of "
    "Delta Lake, Iceberg, Icechunk and Hugging Face datasets"
)
"""Paths of the built-in kinds, for messages."""
READABLE_THERE = "Zarr, Parquet (a file, a folder, a pattern), .npy, .csv, .orc, Delta Lake, Iceberg and Lance"
"""What is read at addresses, for messages."""
