"""Results as a ``.npy`` file."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from streamem.sinks.layout import ResultLayout


class NpyWriter:
    """Appends to an open file: through a memory map, a full disk would kill the process (SIGBUS)."""

    def __init__(self, file: BinaryIO, layout: ResultLayout) -> None:
        self.block_rows = layout.chunk_rows
        self._file = file

    def append(self, values: NDArray[Any]) -> None:
        """Write the next block."""
        self._file.write(values.data)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def open(path: Path, layout: ResultLayout) -> NpyWriter:
    """Start a file for `layout`."""
    file = path.open("xb")
    file.write(_header(layout))
    return NpyWriter(file, layout)


def create(path: Path, layout: ResultLayout) -> None:
    """Make a file of the final size."""
    with path.open("xb") as file:
        file.write(_header(layout))
        file.truncate(file.tell() + layout.rows * layout.row_nbytes)


def open_part(path: Path, layout: ResultLayout, number: int, first: int, rows: int) -> NpyWriter:
    """Go on at row `first`."""
    file = path.open("rb+", buffering=0)
    file.seek(len(_header(layout)) + first * layout.row_nbytes, os.SEEK_SET)
    return NpyWriter(file, layout)


def held_nbytes(layout: ResultLayout) -> int:
    """Peak bytes: the block alone."""
    return 1 * min(layout.chunk_rows, layout.rows) * layout.row_nbytes


def granule(layout: ResultLayout) -> int:
    """Parts may begin anywhere."""
    return 1


def _header(layout: ResultLayout) -> bytes:
    descr = np.lib.format.dtype_to_descr(layout.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": layout.shape(layout.rows)}
    np.lib.format.write_array_header_1_0(text := BytesIO(), header)
    return text.getvalue()
