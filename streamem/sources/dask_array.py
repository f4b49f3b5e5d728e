"""Rows of a lazy Dask array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from streamem.core.chunk import Chunk, as_floats
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import Schema
from streamem.sources.array import row_shape, rows_by_features
from streamem.sources.dask_blocks import Block, BlockSource, blocks_of, require_few_blocks
from streamem.sources.numeric import numeric_dtype
from streamem.sources.options import ReadOptions


@dataclass(frozen=True)
class DecodeArray:
    """Checks that a block is what the array promised, and makes it a chunk; masked values become NaN."""

    n_features: int
    dtype: np.dtype[Any]

    def __call__(self, value: Any, block: Block) -> Chunk:
        array = np.asanyarray(value)
        if array.shape != (block.rows, self.n_features):
            raise SourceError(
                f"Dask block {block.number} computed to shape {array.shape}; its array declares "
                f"{(block.rows, self.n_features)}: correct chunks= of the step that made it (map_blocks, from_delayed)"
            )
        if not np.can_cast(array.dtype, self.dtype):
            raise SourceError(
                f"Dask block {block.number} computed to {array.dtype}, which does not fit {self.dtype}, the type that "
                "its array declares: correct dtype= of the step that made it"
            )
        return Chunk(as_floats(array, self.dtype))


def open_array(data: Any, options: ReadOptions) -> BlockSource:
    """A Dask array (n, d), or one with more axes and `feature_axis`; unknown chunk sizes are found by one pass."""
    origin = "the Dask array"
    if options.columns is not None or options.weight_column is not None:
        wanted = options.weight_column if options.columns is None else list(options.columns)
        raise SchemaError(f"{origin} has no column names, so {wanted!r} cannot be chosen; select by position first")
    dtype = numeric_dtype(data.dtype, origin)
    require_few_blocks(math.prod(data.numblocks), origin, "its rechunk()")
    rows = _as_rows(data, options.feature_axis, origin)
    n_features = rows.shape[1]
    if math.isnan(n_features):
        raise SchemaError(f"{origin} has an unknown number of features; call its compute_chunk_sizes() first")
    if rows.numblocks[1] > 1:
        origin += f" (its {rows.numblocks[1]} chunks along the features joined by rechunk)"
        rows = rows.rechunk({1: -1})
    lengths = rows.chunks[0]
    unknown = any(math.isnan(length) for length in lengths)
    (optimized,) = dask.optimize(rows)
    blocks = blocks_of(optimized, rows, None if unknown else lengths)
    schema = Schema(int(n_features), dtype, None, weighted=False, origin=origin)
    source = BlockSource(blocks, DecodeArray(schema.n_features, dtype), schema, options.chunk_bytes, rows.name)
    source.row_shape = row_shape(data, options.feature_axis)
    return source


def _as_rows(data: Any, feature_axis: int | str | None, origin: str) -> Any:
    if data.ndim > 2 and any(math.isnan(size) for size in data.shape):
        raise SchemaError(f"{origin} has shape {data.shape}; call its compute_chunk_sizes() to join axes to rows")
    return rows_by_features(data, feature_axis, origin)
