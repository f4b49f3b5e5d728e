"""`open_sink`: from a path to a place for results, by a table."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from streamem.core.errors import OutputError, ParameterError
from streamem.core.ports import Sink
from streamem.sinks.staging import Layout, StagedSink, require_free

SINKS: dict[str, str] = {
    ".zarr": "streamem.sinks.zarr",
    ".parquet": "streamem.sinks.parquet",
    ".npy": "streamem.sinks.npy",
}
"""By suffix, the module whose ``open(path, layout)`` gives a `Writer`; imported on first use."""


def open_sink(
    path: str | os.PathLike[str],
    *,
    rows: int,
    width: int | None,
    dtype: DTypeLike,
    names: Sequence[str],
    chunk_rows: int,
    block_bytes: int = 2**25,
    overwrite: bool = False,
) -> Sink:
    """Open a place for results; the suffix of `path` picks the format.

    Everything is written beside `path`, under a hidden name, and renamed by ``commit()``.

    Parameters
    ----------
    path : ``.zarr`` (array, Zarr format 3), ``.parquet`` or ``.npy``, in a folder that exists
    rows : how many rows will be written in all
    width : columns; None for one number a row, written as arrays (b,) instead of (b, width)
    dtype : bool, integer or float; integers are only written if they fit it safely, floats are rounded to it
    names : of the columns: Parquet columns, attribute "names" of a Zarr array, ignored by ``.npy``
    chunk_rows : rows a Zarr chunk
    block_bytes : target size of a Parquet row group, of at most 2^20 rows
    overwrite : replace what is there, on commit

    Raises
    ------
    ParameterError : an unknown suffix, or a layout that cannot be
    OutputError : `path` exists, or its folder does not
    """
    target = Path(path)
    layout = Layout(rows, width, np.dtype(dtype).newbyteorder("="), tuple(names), chunk_rows, block_bytes)
    if target.suffix not in SINKS:
        raise ParameterError(f"{target}: results can be written to {', '.join(SINKS)}; use one of these suffixes")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}; create it first")
    require_free(target, overwrite)
    module = importlib.import_module(SINKS[target.suffix])
    return StagedSink(target, layout, module.open, overwrite)
