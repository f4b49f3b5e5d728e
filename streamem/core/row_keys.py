"""Rows of small integers as one integer each, by which equal rows are found fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_KEY = 2**62
"""Of a row of small integers that one integer stands for."""
MOST_VALUE = 2**52
"""Between the least and the greatest number of a column."""
AT_ONCE = 4096
"""Rows whose numbers stay in the cache from one step to the next."""


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
        low, high = _ends(column)
        if not high - low < MOST_VALUE or not -MOST_KEY < low <= high < MOST_KEY:  # inf − inf is not less
            return None
        own = int(high - low) + 2
        size *= own
        if size >= MOST_KEY:
            return None
        for start in range(0, len(x), AT_ONCE):
            whole = _whole(column[start : start + AT_ONCE], low, own - 1)
            if whole is None:
                return None
            part = keys[start : start + AT_ONCE]
            part *= own
            part += whole
    return keys


def _ends(column: Array) -> tuple[float, float]:
    """The least and the greatest number, 0 where all are NaN."""
    if column.dtype.kind in "iub":
        return int(column.min()), int(column.max())
    low, high = float(column.min()), float(column.max())
    if np.isnan(low):
        low, high = float(np.fmin.reduce(column)), float(np.fmax.reduce(column))
    return (0.0, 0.0) if np.isnan(low) else (low, high)


def _whole(values: Array, least: float, last: int) -> Array | None:
    """Numbers (b,) less the least, NaN as `last`, as int64; None if one is not whole."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64) - least
    counted = values.astype(np.float64) - least
    absent = np.isnan(counted)
    if absent.any():
        counted[absent] = last
    whole = counted.astype(np.int64)
    return None if (whole != counted).any() else whole
