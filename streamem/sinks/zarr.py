"""Results as a Zarr array of format 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from streamem.sinks.staging import Layout


class ZarrWriter:
    """Writes whole chunks, one after the other."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.block_rows = max(1, min(layout.chunk_rows, layout.rows))
        self.append_nbytes = 2 * self.block_rows * layout.row_nbytes
        self._rows = 0
        # Chunks of zeros are stored too, all with a checksum: readers can tell lost chunks and flipped bits.
        self._array = zarr.create_array(
            str(path),
            shape=layout.shape(layout.rows),
            chunks=layout.shape(self.block_rows),
            dtype=layout.dtype,
            compressors=ZstdCodec(checksum=True),
            zarr_format=3,
            attributes={"names": list(layout.names)},
            config={"write_empty_chunks": True},
        )

    def append(self, values: NDArray[Any]) -> None:
        """Write the next chunk."""
        self._array[self._rows : self._rows + len(values)] = values
        self._rows += len(values)

    def close(self) -> None:
        """Do nothing: no file stays open between chunks."""


def open(path: Path, layout: Layout) -> ZarrWriter:
    """Start an array for `layout`."""
    return ZarrWriter(path, layout)
