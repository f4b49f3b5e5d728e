"""Results as a Zarr array of format 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from streamem.sinks.layout import ResultLayout


class ZarrWriter:
    """Writes whole chunks, one after the other, from row `first` on."""

    def __init__(self, path: Path, layout: ResultLayout, first: int = 0) -> None:
        self.block_rows = granule(layout)
        self._rows = first
        self._array = zarr.open_array(str(path), mode="r+").with_config({"write_empty_chunks": True})

    def append(self, values: NDArray[Any]) -> None:
        """Write the next chunk."""
        self._array[self._rows : self._rows + len(values)] = values
        self._rows += len(values)

    def close(self) -> None:
        """Do nothing: no file stays open between chunks."""


def open(path: Path, layout: ResultLayout) -> ZarrWriter:
    """Start an array for `layout`."""
    create(path, layout)
    return ZarrWriter(path, layout)


def create(path: Path, layout: ResultLayout) -> None:
    """Make an array without chunks."""
    # Chunks of zeros are stored too, all with a checksum: readers can tell lost chunks and flipped bits.
    zarr.create_array(
        str(path),
        shape=layout.shape(layout.rows),
        chunks=layout.shape(granule(layout)),
        dtype=layout.dtype,
        compressors=ZstdCodec(checksum=True),
        zarr_format=3,
        attributes={"names": list(layout.names)},
        config={"write_empty_chunks": True},
    )


def open_part(path: Path, layout: ResultLayout, number: int, first: int, rows: int) -> ZarrWriter:
    """Go on at row `first`, the start of a chunk."""
    return ZarrWriter(path, layout, first)


def held_nbytes(layout: ResultLayout) -> int:
    """Peak bytes: the block, and its bytes before and after compression."""
    return 3 * min(layout.chunk_rows, layout.rows) * layout.row_nbytes


def granule(layout: ResultLayout) -> int:
    """Parts begin where chunks begin, so that no chunk has two writers."""
    return max(1, min(layout.chunk_rows, layout.rows))
