"""Rows of small integers as one integer each, by which equal rows are found fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_KEY = 2**62
"""Of a row of small integers that one integer stands for."""


def ordered_patterns(x: Array) -> tuple[int, Array]:
    """How many different rows x (n, d) has; (n,) int64, the place of each row among them, sorted, NaN after numbers."""
    keys = integer_keys(x)
    if keys is None:
        different, places = np.unique(np.where(np.isnan(x), np.inf, x), axis=0, return_inverse=True)
    else:
        different, places = np.unique(keys, return_inverse=True)
    return len(different), places.ravel()


def integer_keys(x: Array) -> Array | None:
    """(n,) int64, one integer for each row of small integers and NaN, in the order of the rows; None for other rows."""
    keys, size = np.zeros(len(x), dtype=np.int64), 1
    for column in np.asarray(x).T:
        column = np.ascontiguousarray(column)
        absent = np.isnan(column)
        low, high = float(np.fmin.reduce(column)), float(np.fmax.reduce(column))
        if np.isnan(low):
            low = high = 0.0
        size *= int(high - low) + 2 if high - low < 2**52 else MOST_KEY  # inf − inf is not less
        if size >= MOST_KEY:
            return None
        absent_last = high - low + 1
        counted = np.where(absent, absent_last, column - low)
        whole = counted.astype(np.int64)
        if (whole != counted).any():
            return None
        keys = keys * (int(high - low) + 2) + whole
    return keys
