"""Local files for Arrow, which knows names in UTF-8 only."""

from __future__ import annotations

import mmap
import os
from typing import Any

import pyarrow as pa


def mapped(path: str | os.PathLike[str]) -> Any:
    """A file in a memory map, whatever its name."""
    try:
        return pa.memory_map(os.fspath(path))
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            return pa.BufferReader(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
