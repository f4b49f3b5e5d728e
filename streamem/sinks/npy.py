"""Results as a ``.npy`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.sinks.staging import Layout


class NpyWriter:
    """Appends to a file: through a memory map, a full disk would kill the process (SIGBUS)."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.block_rows = layout.chunk_rows
        self.append_nbytes = 0
        self._file = path.open("xb")
        descr = np.lib.format.dtype_to_descr(layout.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": layout.shape(layout.rows)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: NDArray[Any]) -> None:
        """Write the next block."""
        self._file.write(values.data)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def open(path: Path, layout: Layout) -> NpyWriter:
    """Start a file for `layout`."""
    return NpyWriter(path, layout)
