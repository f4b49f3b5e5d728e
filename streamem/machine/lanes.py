"""Arrays as compiled code moves them: rows of whole vectors. Does not import Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.processor import VECTOR_BITS

Array = NDArray[Any]

LANES = VECTOR_BITS // 64
"""Float64 of a vector."""

VECTOR_BYTES = 8 * LANES


def lanes_for(columns: int) -> int:
    """Columns, filled up to whole vectors."""
    return -(-columns // LANES) * LANES


def in_lanes(values: Array) -> Array:
    """(n, width) float64 in C order, filled up with columns of zeros to whole vectors; itself if it is so already."""
    if _is_suited(values):
        return values
    filled = _zeros(values)
    filled[:, : values.shape[1]] = values
    return filled


def fill_in_lanes(out: Array, fill: Callable[[Array], object]) -> None:
    """Have `fill` write out (n, width), or an array as above from which it is copied."""
    if _is_suited(out):
        fill(out)
        return
    suited = _zeros(out)  # and no copy of out, which holds anything yet
    fill(suited)
    out[...] = suited[:, : out.shape[1]]


def _is_suited(values: Array) -> bool:
    return values.shape[1] % LANES == 0 and values.dtype == np.float64 and values.flags.c_contiguous


def _zeros(like: Array) -> Array:
    return np.zeros((len(like), lanes_for(like.shape[1])))
