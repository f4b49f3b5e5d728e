"""Features of a row as products of pairs, and the block of rows from which they are made."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels

Array = NDArray[Any]


LEAST_GROUP = 16
"""Features of a group in the mean from which on summing group by group is faster than feature by feature."""

NO_GROUPS: Array = np.empty((0, 4), dtype=np.int64)


class Features(NamedTuple):
    """F features of x̃ (d,), products of pairs from z = [1, x̃] or, where `norm` is set, from [1, x̃, |x̃|²].

    Attributes
    ----------
    left, right : (F,) int32 positions in z; the first 1 + d features are 1 and x̃
    norm : whether z ends with the squared norm
    squares : whether the features are 1, x̃ and the squares of all of x̃
    groups : (G, 4) int64, features that share their left row of z and have neighbouring right ones: left, first right,
        first feature, count; none where groups are small
    """

    left: Array
    right: Array
    norm: bool = False
    squares: bool = False
    groups: Array = NO_GROUPS


def features_of_moments(d: int, left: Array, right: Array, norm: bool = False) -> Features:
    """1 and x̃, followed by the products of the given pairs."""
    linear = np.arange(1 + d)
    squares = np.array_equal(left, linear[1:]) and np.array_equal(right, linear[1:])
    left, right = np.concatenate([0 * linear, left]), np.concatenate([linear, right])
    return Features(left.astype(np.int32), right.astype(np.int32), norm, squares, _groups_of(left, right))


def linear_features(d: int) -> Features:
    """1 and x̃ alone."""
    none = np.empty(0, dtype=np.int64)
    return features_of_moments(d, none, none)


def _groups_of(left: Array, right: Array) -> Array:
    apart = (np.diff(left) != 0) | (np.diff(right) != 1)
    first = np.concatenate([[0], 1 + np.flatnonzero(apart)])
    if len(left) < LEAST_GROUP * len(first):
        return NO_GROUPS
    count = np.diff([*first, len(left)])
    return np.column_stack([left[first], right[first], first, count]).astype(np.int64)


class AnchoredBlock:
    """A block of rows x̃ = (x − center) / scale with rows last, under a row of ones.

    Parameters
    ----------
    center, scale : (d,)
    most_rows : rows that a block may have
    dtype : of z
    norm : whether |x̃|² is wanted in the last row
    """

    def __init__(self, center: Array, scale: Array, most_rows: int, dtype: DTypeLike, norm: bool = False) -> None:
        # A copy: parameters are read-only, and would be compiled for once more.
        self._center, self._unscale = center.copy(), 1.0 / scale  # exact: scales are powers of two
        self._shape, self._dtype, self._norm = (1 + len(center) + norm, most_rows), dtype, norm
        self._buffer: Array | None = None
        self.z: Array = np.empty((self._shape[0], 0))

    @property
    def xt(self) -> Array:
        """x̃ᵀ, (d, b)."""
        return self.z[1 : 1 + len(self._center)]

    def load(self, x: Array) -> None:
        """Take rows x (b, d)."""
        if self._buffer is None:
            self._buffer = np.empty(self._shape[0] * self._shape[1], dtype=self._dtype)
        self.z = self._buffer[: self._shape[0] * len(x)].reshape(self._shape[0], len(x))
        self.z[0] = 1.0
        kernels.load_anchored(as_rows(x), self._center, self._unscale, self.xt)
        if self._norm:
            np.einsum("db,db->b", self.xt, self.xt, out=self.z[-1])


def as_rows(x: Array) -> Array:
    """Rows as compiled code reads them: C order, float64 or float32, read-only, so that one compilation serves all."""
    rows = np.ascontiguousarray(x, dtype=x.dtype if x.dtype in (np.float64, np.float32) else np.float64).view()
    rows.flags.writeable = False
    return rows
