"""Rows that occur again and again, as one row each with the sum of their weights."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamem.core.row_keys import integer_keys
from streamem.core.stats import Stats

Array = NDArray[Any]


DENSE = 2**16
"""Keys of rows below this, or below their number, are counted in an array; others are hashed first."""


class Patterns(Stats):
    """Different rows, and the weight of each: a value that is summed over chunks as statistics are.

    Attributes
    ----------
    rows : (p, d) in the order in which they first occur
    weights : (p,)
    most : more patterns than this are not kept: `rows` is empty then, and `weights` holds nothing
    lost : 1 where there were more

    >>> once = Patterns.of(np.array([[1.0, 2.0], [3.0, np.nan], [1.0, 2.0]]), None, 10)
    >>> (once + once).weights
    array([4., 2.])
    """

    __slots__ = ()

    @classmethod
    def of(cls, x: Array, weight: Array | None, most: int) -> Self:
        """The patterns of rows x (n, d) of weight (n,)."""
        if not len(x):
            return cls(rows=np.empty((0, x.shape[1])), weights=np.empty(0), most=most, lost=0)
        first, weights = _different(x, weight)
        if len(first) > most:
            return cls(rows=np.empty((0, x.shape[1])), weights=np.empty(0), most=most, lost=1)
        return cls(rows=np.asarray(x[first], dtype=np.float64), weights=weights, most=most, lost=0)

    def __add__(self, other: Stats) -> Self:
        """The patterns of both, those of `self` first."""
        if not isinstance(other, Patterns):
            return NotImplemented
        if self.lost or other.lost:
            return self if self.lost else type(self)(**dict(other.items()))
        both = np.concatenate([self.rows, other.rows]), np.concatenate([self.weights, other.weights])
        return self.of(*both, int(self.most))


def _different(x: Array, weight: Array | None) -> tuple[Array, Array]:
    """Where each different row first occurs, in this order, and the sum of its weights."""
    keys = integer_keys(x)
    codes = keys if keys is not None and int(keys.max()) < max(len(keys), DENSE) else _codes(x, keys)
    first = np.full(int(codes.max()) + 1, -1)
    first[codes[::-1]] = np.arange(len(x))[::-1]
    weights = np.bincount(codes, weights=weight, minlength=len(first))
    if codes is keys:  # which are sorted by value, and some may not occur
        present = np.flatnonzero(first >= 0)
        present = present[np.argsort(first[present])]
        first, weights = first[present], weights[present]
    return first, weights.astype(np.float64, copy=False)


def _codes(x: Array, keys: Array | None) -> Array:
    """(n,) int64: equal rows have equal numbers, from 0 in the order in which they first occur."""
    if keys is None:
        plain = np.ascontiguousarray(x, dtype=np.float64) + 0.0  # −0 is 0
        plain[np.isnan(plain)] = np.nan
        packed = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(8 * x.shape[1]), len(plain), [None, pa.py_buffer(plain)]
        )
    else:
        packed = pa.array(keys)
    return np.asarray(packed.dictionary_encode().indices.to_numpy()).astype(np.int64, copy=False)
