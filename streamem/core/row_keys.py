"""Rows of small integers as one integer each, by which equal rows are found fast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EXACT: tuple[tuple[Any, int], ...] = ((np.float32, 2**24), (np.float64, 2**53))
"""Floats, and the integers below which all are theirs: sums of products below it are exact in any order."""
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
    """(n,) int64, one integer for each row of small integers and NaN, in the order of the rows; None for other rows.

    It is the product of the rows with one vector, each column's place value: NaN counts as one more than the greatest.
    """
    x = np.asarray(x)
    ends = _ends(x)
    if not all(map(math.isfinite, ends.ravel().tolist())):
        return None
    low, high = [int(value) for value in ends[0]], [int(value) for value in ends[1]]
    sizes = [b - a + 2 for a, b in zip(low, high, strict=True)]
    places = [math.prod(sizes[j + 1 :]) for j in range(len(sizes))]
    greatest = sum(max(-a, b + 1) * place for a, b, place in zip(low, high, places, strict=True))
    dtype = next((own for own, most in EXACT if greatest < most and max(map(abs, low + high), default=0) < most), None)
    if dtype is None:
        far = x.dtype.kind in "iu" and any(low) and math.prod(sizes) < EXACT[-1][1]
        return integer_keys(x - np.array(low, dtype=x.dtype)) if far else None
    keys, product, absent = np.empty(len(x), dtype=np.int64), np.array(places, dtype=dtype), np.array(high) + 1.0
    for start in range(0, len(x), AT_ONCE):
        whole = _whole(x[start : start + AT_ONCE], absent)
        if whole is None:
            return None
        keys[start : start + AT_ONCE] = whole.astype(dtype, copy=False) @ product
    keys -= sum(a * place for a, place in zip(low, places, strict=True))
    return keys


def _ends(x: Array) -> Array:
    """(2, d) the least and the greatest number of each column of x (n, d), 0 where all are NaN."""
    found = np.array([_ends_of(x[start : start + AT_ONCE]) for start in range(0, len(x), AT_ONCE)], dtype=object)
    if x.dtype.kind == "f":
        found = found.astype(np.float64)
    ends = np.stack([np.fmin.reduce(found[:, 0], axis=0), np.fmax.reduce(found[:, 1], axis=0)])
    return np.where(ends != ends, 0, ends)


def _ends_of(x: Array) -> tuple[Array, Array]:
    """The least and the greatest number of each column of few rows, NaN where all are NaN."""
    columns = np.ascontiguousarray(x.T)
    low, high = columns.min(axis=1), columns.max(axis=1)
    if x.dtype.kind == "f" and np.isnan(low).any():
        return np.fmin.reduce(columns, axis=1), np.fmax.reduce(columns, axis=1)
    return low, high


def _whole(x: Array, absent: Array) -> Array | None:
    """Few rows x (b, d), NaN as `absent` (d,); None if a number is not whole."""
    if x.dtype.kind != "f":
        return x
    holes = np.isnan(x)
    if holes.any():
        x = np.where(holes, absent, x)
    return None if (np.rint(x) != x).any() else x
