"""Rows from NumPy arrays and memory maps."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk, as_floats, without_idle_mask
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.core.redaction import presentable
from streamem.sources.numeric import as_array, numbers_in, numeric_dtype
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts

FINGERPRINT_ROWS, LEAST_FINGERPRINT_ROWS, FINGERPRINT_VALUES = 4096, 256, 2**16


@dataclass(frozen=True, eq=False)
class ArrayChunkRef(ChunkRef):
    """Rows start … start + rows − 1 of an array in memory or memory-mapped, that begins at row `offset`.

    Only its own rows travel when it is pickled.
    """

    array: NDArray[Any]
    dtype: np.dtype[Any]
    index: int
    start: int
    rows: int
    offset: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        own = self._own()
        own = own.copy() if isinstance(own, np.ma.MaskedArray) else np.ascontiguousarray(own)
        return ArrayChunkRef, (own, self.dtype, self.index, self.start, self.rows, self.start)

    def _own(self) -> NDArray[Any]:
        first = self.start - self.offset
        return self.array[first : first + self.rows]

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded chunk."""
        return self.rows * self.array.shape[1] * self.dtype.itemsize

    @property
    def load_nbytes(self) -> int:
        """A view costs nothing more than itself; a conversion holds its result only, what is masked two copies more."""
        masked = isinstance(self.array, np.ma.MaskedArray)
        return self.nbytes + masked * self.rows * self.array.shape[1] * (self.array.itemsize + 1)

    @property
    def in_memory(self) -> bool:
        """Whether loading is a view."""
        masked = isinstance(self.array, np.ma.MaskedArray)
        return not masked and self.array.dtype == self.dtype and self.array.flags.c_contiguous

    def load(self) -> Chunk:
        """The rows in C order; a view where the array already is."""
        return Chunk(as_floats(self._own(), self.dtype))


class ArraySource(Source):
    """Rows of a two-dimensional numeric array (n, d), masked values as NaN; nothing is copied as a whole.

    `row_shape` are the axes that were flattened to rows.
    """

    def __init__(
        self,
        array: NDArray[Any],
        options: ReadOptions,
        origin: str,
        names: tuple[str, ...] | None = None,
        row_shape: tuple[int, ...] | None = None,
    ) -> None:
        self._array = array = without_idle_mask(array)
        self.row_shape = array.shape[:1] if row_shape is None else row_shape
        dtype = numeric_dtype(array.dtype, origin)
        self.schema = Schema(array.shape[1], dtype, names, weighted=False, origin=origin)
        self.n_rows = int(array.shape[0])
        d = int(array.shape[1])
        self._chunk_bytes = options.array_chunk_bytes(self.n_rows, d, d * dtype.itemsize)

    def fingerprint(self) -> str:
        """Shape, dtype and a checksum of evenly spaced rows."""
        sample = fingerprint_sample(self._array, *fingerprint_steps(*self._array.shape))
        return f"array{self._array.shape}{self._array.dtype}-{zlib.crc32(sample.tobytes()):08x}"

    def chunks(self) -> Sequence[ArrayChunkRef]:
        """Even cuts (`ReadOptions.array_chunk_bytes`)."""
        dtype = self.schema.dtype
        cuts = even_cuts(self.n_rows, self.schema.n_features * dtype.itemsize, self._chunk_bytes)
        return [ArrayChunkRef(self._array, dtype, i, a, b - a) for i, (a, b) in enumerate(cuts)]


def fingerprint_steps(n_rows: int, n_features: int) -> tuple[int, int]:
    """Steps (rows, columns) of a sample that a fingerprint looks at: few enough values for every pass."""
    rows = min(FINGERPRINT_ROWS, max(LEAST_FINGERPRINT_ROWS, FINGERPRINT_VALUES // max(1, n_features)))
    columns = max(1, FINGERPRINT_VALUES // rows)
    return -(-max(n_rows, 1) // rows), -(-max(n_features, 1) // columns)


def fingerprint_sample(array: NDArray[Any], rows: int, columns: int, first: int = 0) -> NDArray[Any]:
    """A sample of evenly spaced rows and columns, in C order; which columns differs from row to row."""
    if columns == 1:
        return np.ascontiguousarray(_shown(array[first::rows]))
    chosen = np.arange(first, len(array), rows)
    within = np.arange(0, array.shape[1], columns)[None, :] + (np.arange(len(chosen)) % columns)[:, None]
    return np.asarray(_shown(array[chosen[:, None], np.minimum(within, array.shape[1] - 1)]))


def _shown(sample: NDArray[Any]) -> NDArray[Any]:
    """The array with NaN where a mask hides a value."""
    if not isinstance(sample, np.ma.MaskedArray):
        return sample
    shown: NDArray[Any] = np.ma.filled(sample.astype(np.float64), np.nan)
    return shown


def rows_by_features(array: Any, feature_axis: int | str | None, what: str) -> Any:
    """The array as (rows, features): the feature axis last, all other axes flattened in C order, without a copy if two
    axes are enough."""
    if isinstance(feature_axis, str):
        raise SchemaError(f"{what} has no named axes, so feature_axis must be a number, not {feature_axis!r}")
    if array.ndim == 2 and feature_axis in (None, 1, -1):
        return array
    if feature_axis is None or not -array.ndim <= feature_axis < array.ndim or array.ndim < 2:
        raise SchemaError(
            f"{what} has shape {array.shape}; rows are needed as (n, d). "
            + (
                "Reshape your data: one feature to (n, 1), one row to (1, d)."
                if array.ndim < 2
                else "Pass feature_axis= (0 … ndim − 1) to say which axis holds the features; the others become rows."
            )
        )
    return np.moveaxis(array, feature_axis, -1).reshape(-1, array.shape[feature_axis])


def row_shape(array: Any, feature_axis: int | str | None) -> tuple[int, ...]:
    """The axes that `rows_by_features` makes rows of."""
    axis = array.ndim - 1 if not isinstance(feature_axis, int) else feature_axis % array.ndim
    return tuple(array.shape[:axis] + array.shape[axis + 1 :])


def open(data: Any, options: ReadOptions) -> Source:
    """An array or memory map."""
    origin = "the array"
    array = numbers_in(as_array(data), origin)
    refuse_names(options, origin)
    rows = rows_by_features(array, options.feature_axis, origin)
    return ArraySource(rows, options, origin, row_shape=row_shape(array, options.feature_axis))


def refuse_names(options: ReadOptions, origin: str) -> None:
    """Raise `SchemaError` if columns are to be chosen by name."""
    if options.columns is not None or options.weight_column is not None:
        wanted = options.weight_column if options.columns is None else list(options.columns)
        raise SchemaError(f"{origin} has no column names, so {wanted!r} cannot be chosen; select by position first")


def memory_map(path: Path) -> NDArray[Any]:
    """A ``.npy`` file without reading it.

    Raises
    ------
    SourceError : it is no such file, truncated, or holds objects
    """
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"cannot read NumPy file {path}: {error}") from presentable(error)
    return mapped
