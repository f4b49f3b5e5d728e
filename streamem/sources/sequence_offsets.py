"""Where sequences begin: from lengths or offsets, as the user has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import is_address
from streamem.core.errors import DataError
from streamem.machine.importing import import_whole
from streamem.sources.array import memory_map
from streamem.sources.numeric import as_array, refuse_masked

Ints = NDArray[np.int64]


def offsets_of_lengths(lengths: Ints, n_rows: int, origin: str) -> Ints:
    """(s + 1,) offsets.

    Raises
    ------
    DataError : lengths that are negative or zero, or do not sum to n_rows
    """
    if (wrong := lengths < 1).any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"lengths: sequence {i} has {lengths[i]} steps, and {int(wrong.sum())} of {len(lengths)} have less than "
            "one; every sequence needs at least one: leave empty ones out"
        )
    if (total := int(lengths.sum())) != n_rows:
        raise DataError(
            f"lengths: {len(lengths)} sequences have {total} steps together, and {origin} has {n_rows} rows; the "
            "lengths must sum to the number of rows"
        )
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def offsets_of_starts(starts: Ints, n_rows: int, origin: str) -> Ints:
    """(s + 1,) offsets from s first rows, whether or not n_rows follows them.

    Raises
    ------
    DataError : starts that do not begin at 0, do not increase, or lie beyond the rows
    """
    if not len(starts) or starts[0] != 0:
        found = "empty" if not len(starts) else f"{starts[0]}, …"
        raise DataError(f"offsets are {found}; they are the first row of every sequence, so the first one must be 0")
    if (wrong := np.diff(starts) <= 0).any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"offsets: sequence {i} begins at row {starts[i]} and the next one at {starts[i + 1]}; offsets must "
            "increase, and every sequence needs at least one step: leave empty ones out"
        )
    if starts[-1] > n_rows:
        raise DataError(f"offsets: the last is {starts[-1]}, and {origin} has {n_rows} rows; they must lie within them")
    return starts if starts[-1] == n_rows and len(starts) > 1 else np.append(starts, n_rows)


def integers(value: Any, what: str, beside: Any) -> Ints:
    """One-dimensional integers: an array or list, a path (``.npy``, Zarr), or the name of an array `beside` the data.

    Raises
    ------
    DataError : other shapes, masked values, or numbers that are not whole
    SourceError, SchemaError : nothing can be read there
    """
    numbers = one_dimensional(value, what, beside)
    if numbers.dtype.kind == "f" and np.array_equal(numbers, np.floor(numbers)):
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise DataError(f"{what} holds {numbers.dtype} values that are not whole numbers; integers are needed")
    return numbers.astype(np.int64, copy=False)


def one_dimensional(value: Any, what: str, beside: Any) -> NDArray[Any]:
    """Numbers (s,) in memory, from wherever they lie."""
    if is_address(value) and os.fspath(value).endswith(".npy"):
        far = import_whole("streamem.sources.npy_far").file_at(value)
        numbers: NDArray[Any] = far.read(0, far.shape[0])
    elif isinstance(value, str | os.PathLike) and str(value).endswith(".npy") and Path(value).exists():
        numbers = np.asarray(memory_map(Path(value)))
    elif isinstance(value, str | os.PathLike) or type(value).__module__.partition(".")[0] == "zarr":
        numbers = import_whole("streamem.sources.zarr_beside").read_numbers(value, what, beside)
    else:
        numbers = as_array(value)
        refuse_masked(numbers, what, "none of them can be missing")
        numbers = np.asarray(numbers)
    if numbers.ndim != 1:
        raise DataError(f"{what} has shape {numbers.shape}; one number for each sequence is needed, as (s,)")
    return numbers
