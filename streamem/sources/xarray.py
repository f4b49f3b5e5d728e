"""Rows from xarray: a DataArray with a dimension of features, or the variables of a Dataset."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.machine.importing import import_whole
from streamem.sources.numeric import numbers_in, numeric_dtype
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts
from streamem.sources.unobserved import weighing_observed
from streamem.sources.xarray_grid import grid_of
from streamem.sources.xarray_layout import Rows, labels, matrix_rows, table_rows

SAMPLED_NUMBERS = 2**20
PIECE_ROWS = 2**16


@dataclass(frozen=True, eq=False)
class XarrayChunkRef(ChunkRef):
    """Positions first … last − 1 of the first row dimension."""

    data: Rows
    dtype: np.dtype[Any]
    first: int
    last: int
    index: int
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and their weights."""
        weights = 0 if self.data.weight is None else 8 * self.rows
        return self.rows * self.data.n_features * self.dtype.itemsize + weights

    @property
    def load_nbytes(self) -> int:
        """An estimate: what is behind xarray holds the largest variable's slab as stored and as decoded."""
        widest = max(v.dtype.itemsize * math.prod(v.shape[1:]) for v in self.data.variables)
        # Measured beyond the chunk (VmHWM, 64 MiB float32): nothing with NumPy behind, 123 MiB with one Zarr chunk.
        return self.nbytes + 2 * (self.last - self.first) * widest

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of this machine that the variables were opened from."""
        sources = {str(variable.encoding.get("source", "")): None for variable in self.data.variables}
        return tuple(source for source in sources if os.path.isabs(source))

    def load(self) -> Chunk:
        """Read the rows, lazily backed ones through their backend.

        Raises
        ------
        SourceError : the backend cannot read them
        """
        try:
            return self._load()
        except MemoryError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.data.origin}: rows {self.start}–{self.start + self.rows - 1} cannot be read: "
                f"{type(error).__name__}: {error}; check the file or store behind it"
            ) from error

    def _load(self) -> Chunk:
        weight = None
        if self.data.weight is not None:
            weight = self._slab(self.data.weight).reshape(-1).astype(np.float64)
        if self.data.is_matrix:
            x = np.ascontiguousarray(self._slab(self.data.variables[0]), dtype=self.dtype)
            return Chunk(x.reshape(self.rows, -1), weight)
        x = np.empty((self.rows, self.data.n_features), self.dtype)
        first = 0
        for variable, width in zip(self.data.variables, self.data.widths, strict=True):
            x[:, first : first + width] = self._slab(variable).reshape(self.rows, width)
            first += width
        return Chunk(x, weight)

    def _slab(self, variable: Any) -> NDArray[Any]:
        slab = variable.isel({self.data.cut_dim: slice(self.first, self.last)})
        if slab.chunks is not None:
            # Chunks are loaded side by side already; a worker's task must not wait for other tasks of its cluster.
            slab = slab.compute(scheduler="synchronous")
        return numbers_in(slab.values, self.data.origin)


class XarraySource(Source):
    """Rows in slabs along the first row dimension, in multiples of the stored chunks where they are known."""

    def __init__(self, data: Rows, chunk_bytes: int) -> None:
        self._data, self._chunk_bytes = data, chunk_bytes
        dtypes = [numeric_dtype(variable.dtype, data.origin) for variable in data.variables]
        if data.weight is not None:
            numeric_dtype(data.weight.dtype, f"{data.origin}, the weight column,")
        dtype = np.result_type(*dtypes)
        self.schema = Schema(data.n_features, dtype, data.names, data.weight is not None, data.origin)
        self.n_rows = math.prod(data.row_shape)
        self.row_shape = tuple(data.row_shape)

    def fingerprint(self) -> str:
        """Dimensions, dtypes, names, and a checksum of evenly spaced positions (three where they are lazy)."""
        data = self._data
        crc = 0
        for variable in [*data.variables, *([] if data.weight is None else [data.weight])]:
            crc = zlib.crc32(repr((variable.dims, variable.shape, str(variable.dtype))).encode(), crc)
            crc = zlib.crc32(_sample(variable, data.cut_dim).tobytes(), crc)
        return f"xarray{dict(zip(data.row_dims, data.row_shape, strict=True))}{data.names}-{crc:08x}"

    def chunks(self) -> Sequence[XarrayChunkRef]:
        """Neighbouring stored chunks, grouped up to `chunk_bytes`."""
        if self.n_rows == 0:
            return []
        data, dtype = self._data, self.schema.dtype
        length = data.row_shape[0]
        inner = self.n_rows // length
        row_nbytes = data.n_features * dtype.itemsize + (0 if data.weight is None else 8)
        cuts = even_cuts(length, inner * row_nbytes, self._chunk_bytes, granule=min(data.unit, length))
        return [
            XarrayChunkRef(data, dtype, a, b, index, a * inner, (b - a) * inner) for index, (a, b) in enumerate(cuts)
        ]


def _sample(variable: Any, dim: str) -> NDArray[Any]:
    length = variable.sizes[dim]
    # `_in_memory` only decides how much is looked at: a lazy position may cost a whole stored chunk.
    affordable = SAMPLED_NUMBERS // max(1, variable.size // max(1, length))
    most = min(1024, max(3, affordable)) if getattr(variable, "_in_memory", False) else 3
    positions = np.unique(np.linspace(0, max(0, length - 1), min(most, length)).astype(np.int64))
    return np.ascontiguousarray(variable.isel({dim: positions}).values)


def open(data: Any, options: ReadOptions) -> Source:
    """Open a DataArray or a Dataset.

    Missing chunks of a Zarr store behind xarray cannot be seen from here; open the store itself to have them refused.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        A DataArray has its features on the dimension ``options.feature_axis`` (a name or number; by default the
        last of two); columns are then the dimension's labels. A Dataset has one variable a feature; with
        ``feature_axis``, each variable has a feature for every position along it (``temperature[0]``, …), and one that
        lacks the dimension is one feature; a single variable is read as a DataArray. Other dimensions become rows, in C
        order. The weights may lack some of the row dimensions, and are then repeated along them.
    options : how to read

    Raises
    ------
    SchemaError : variables or labels are missing, not numeric, of unequal dimensions, or features have no axis
    """
    if isinstance(data, xarray.Dataset):
        return _on_grid(data, rows := table_rows(data, options), XarraySource(rows, options.chunk_bytes))
    if not isinstance(data, xarray.DataArray):
        raise SchemaError(
            f"{type(data).__name__} holds no rows that are known how to read; pass a DataArray or a Dataset, of a "
            "DataTree one node's .to_dataset()"
        )
    rows = matrix_rows(data, options)
    lazy = rows.variables[0]
    if lazy.chunks is not None and rows.weight is None and lazy.ndim == 2 and labels(data, options) is None:
        plain = replace(options, columns=None, feature_axis=None)
        return _on_grid(data, rows, import_whole("streamem.sources.dask").open(lazy.data, plain))
    return _on_grid(data, rows, XarraySource(rows, options.chunk_bytes))


def _on_grid(data: Any, rows: Rows, source: Source) -> Source:
    source.grid = grid_of(data, rows)
    return source


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of any variable or coordinate of the rows, repeated along row dimensions that it lacks.

    Raises
    ------
    SchemaError : there is no such variable, or it has dimensions that rows do not have
    """
    layout = table_rows if isinstance(data, xarray.Dataset) else matrix_rows
    rows = layout(data, replace(options, weight_column=name))
    step = max(1, PIECE_ROWS // max(1, math.prod(rows.row_shape[1:])))
    for first in range(0, rows.row_shape[0], step):
        piece = rows.weight.isel({rows.cut_dim: slice(first, first + step)})
        yield np.asarray(piece.values).reshape(-1)


def observed(data: Any, source: Source) -> Source:
    """Rows of a DataArray or Dataset, or made of such, with points that were never observed (land) left out."""
    if not isinstance(data, xarray.Dataset | xarray.DataArray):
        return weighing_observed(source, in_memory=False)
    arrays = list(data.data_vars.values()) if isinstance(data, xarray.Dataset) else [data]
    if source.n_rows == 0 or not any(array.dtype.kind == "f" for array in arrays):
        return source
    # As in `_sample`, `_in_memory` only decides how much is looked at.
    return weighing_observed(source, all(getattr(array.variable, "_in_memory", False) for array in arrays))


def index_columns(data: Any, options: ReadOptions) -> list[str]:
    """The coordinates of the dimensions that become rows, where a dimension has some."""
    return [str(dim) for dim in row_dims(data, options) if dim in data.coords]


def row_dims(data: Any, options: ReadOptions) -> tuple[Any, ...]:
    """The dimensions that become rows, in their order."""
    layout = table_rows if isinstance(data, xarray.Dataset) else matrix_rows
    try:
        return layout(data, replace(options, weight_column=None)).row_dims
    except SchemaError:  # names of a fit to other data may be labels of a dimension here
        return layout(data, replace(options, weight_column=None, columns=None)).row_dims
