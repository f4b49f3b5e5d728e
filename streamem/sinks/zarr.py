"""Results as a Zarr array of format 3; of rows on a grid, as a group that xarray opens."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from streamem.sinks.layout import ResultGrid, ResultLayout


class ZarrWriter:
    """Writes whole chunks, one after the other, from row `first` on."""

    def __init__(self, path: Path, layout: ResultLayout, first: int = 0) -> None:
        self.block_rows = block_rows(layout)
        grid = layout.grid
        self._place, self._inner = first // inner_rows(layout), inner_rows(layout)
        self._shape = () if grid is None else grid.rows.shape[1:]
        place = path if grid is None else path / grid.name
        self._array = zarr.open_array(str(place), mode="r+").with_config({"write_empty_chunks": True})

    def append(self, values: NDArray[Any]) -> None:
        """Write the next chunk, or chunks."""
        positions = len(values) // self._inner
        block = values.reshape(positions, *self._shape, *values.shape[1:])
        self._array[self._place : self._place + positions] = block
        self._place += positions

    def close(self) -> None:
        """Do nothing: no file stays open between chunks."""


def open(path: Path, layout: ResultLayout) -> ZarrWriter:
    """Start an array for `layout`."""
    create(path, layout)
    return ZarrWriter(path, layout)


def create(path: Path, layout: ResultLayout) -> None:
    """Make an array without chunks, of rows on a grid beside its coordinates."""
    grid = layout.grid
    if grid is None:
        chunks = layout.shape(granule(layout))
        zarr.create_array(str(path), shape=layout.shape(layout.rows), chunks=chunks, **_stored(layout))
        return
    grid.rows.write(str(path))
    group = zarr.open_group(str(path), mode="r+")
    width = layout.shape(0)[1:]
    _, chunks, shards = _grid_chunks(layout, grid)
    dims = (*grid.rows.dims, *([] if grid.extra is None else [grid.extra]))
    group.create_array(
        grid.name,
        shape=(*grid.rows.shape, *width),
        chunks=(*chunks, *width),
        shards=None if shards is None else (*shards, *width),
        dimension_names=dims,
        **_stored(layout),
    )
    if grid.extra is not None:
        labels = np.array(grid.labels, dtype=np.int64 if isinstance(grid.labels[0], int) else object)
        dtype = str if labels.dtype == object else labels.dtype
        names = group.create_array(grid.extra, shape=labels.shape, dtype=dtype, dimension_names=(grid.extra,))
        names[:] = labels
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")  # not of the format yet; xarray looks for it
        zarr.consolidate_metadata(group.store)


def _stored(layout: ResultLayout) -> dict[str, Any]:
    """How numbers are stored: chunks of zeros too, all with a checksum, so that lost chunks and flipped bits show."""
    return {
        "dtype": layout.dtype,
        "compressors": ZstdCodec(checksum=True),
        "attributes": {"names": list(layout.names)},
        "config": {"write_empty_chunks": True},
    }


def open_part(path: Path, layout: ResultLayout, number: int, first: int, rows: int) -> ZarrWriter:
    """Go on at row `first`, the start of a chunk."""
    return ZarrWriter(path, layout, first)


def held_nbytes(layout: ResultLayout) -> int:
    """Peak bytes: the block, and its bytes before and after compression."""
    return 3 * min(block_rows(layout), layout.rows) * layout.row_nbytes


def granule(layout: ResultLayout) -> int:
    """Parts begin where chunks begin, so that no chunk has two writers."""
    if layout.grid is None:
        return max(1, min(layout.chunk_rows, layout.rows))
    return _grid_chunks(layout, layout.grid)[0] * inner_rows(layout)


def block_rows(layout: ResultLayout) -> int:
    """Rows that are written at once: whole chunks."""
    own = granule(layout)
    return own if layout.grid is None else own * max(1, layout.chunk_rows // own)


def inner_rows(layout: ResultLayout) -> int:
    """Rows at one position of the first dimension."""
    return 1 if layout.grid is None else layout.grid.rows.inner


def _grid_chunks(layout: ResultLayout, grid: ResultGrid) -> tuple[int, tuple[int, ...], tuple[int, ...] | None]:
    """Positions of the first dimension that one writer has to write, and lengths of chunks and shards.

    Chunks are those of the data, where these are known; else as many positions as a chunk of the data has.
    """
    rows = grid.rows
    if rows.chunks is not None:
        return (rows.shards or rows.chunks)[0], rows.chunks, rows.shards
    first = max(1, min(layout.chunk_rows // rows.inner, rows.shape[0]))
    chunks = (first, *(max(1, size) for size in rows.shape[1:]))
    return first, chunks, None
