"""Products of matrices with features in strips of rows that stay in registers: what `strip_code` leaves over.

Measured on AVX2 (AMD Zen 3, one thread; in brackets with panels of features and OpenBLAS): 30 GFLOP/s in float64 (6 to
24), 60 in float32 (10 to 43).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.core.compiled import compiled
from streamem.core.vectors import VECTOR_BYTES
from streamem.families.strip_code import product_of, statistics_of
from streamem.families.tiling import STRIP_BYTES, Products

Array = NDArray[Any]

_product_1, _product_2, _product_3, _product_4 = (product_of(components) for components in (1, 2, 3, 4))
_statistics_1, _statistics_2, _statistics_3, _statistics_4 = (statistics_of(components) for components in (1, 2, 3, 4))

NEAR_FEATURES = 8
"""Whose rows of z stay in the first-level cache while all components go by."""


@compiled
def _multiply(natural: Array, left: Array, right: Array, z: Array, columns: int, out: Array) -> None:
    """The first columns, whole strips."""
    rows = STRIP_BYTES // natural.itemsize
    whole = natural.shape[0] - natural.shape[0] % 4
    for k in range(0, whole, 4):
        for start in range(0, columns, rows):
            _product_4(natural, k, left, right, z, start, out)
    rest = natural.shape[0] - whole
    for start in range(0, columns, rows):
        if rest == 3:
            _product_3(natural, whole, left, right, z, start, out)
        elif rest == 2:
            _product_2(natural, whole, left, right, z, start, out)
        elif rest == 1:
            _product_1(natural, whole, left, right, z, start, out)


@compiled
def multiply_strips(products: Products, z: Array, out: Array) -> None:
    """out (K, b) = η·T."""
    natural, last, scores = products.natural[0], products.panel, products.scores
    whole = z.shape[1] - z.shape[1] % last.shape[1]
    _multiply(natural, products.left, products.right, z, whole, out)
    rest = z.shape[1] - whole
    if rest == 0:
        return
    for j in range(last.shape[0]):
        last[j, :rest] = z[j, whole:]
        last[j, rest:] = 0
    _multiply(natural, products.left, products.right, last, last.shape[1], scores)
    for k in range(scores.shape[0]):
        out[k, whole:] = scores[k, :rest]


@compiled
def _accumulate(resp: Array, left: Array, right: Array, z: Array, columns: int, sums: Array) -> None:
    """Over the first columns, whole vectors. An odd last feature meets itself, in a row of sums that nobody reads."""
    whole = resp.shape[0] - resp.shape[0] % 4
    for first in range(0, left.size, NEAR_FEATURES):
        for k in range(0, whole, 4):
            for f in range(first, min(first + NEAR_FEATURES, left.size), 2):
                _statistics_4(resp, k, left, right, f, min(f + 1, left.size - 1), z, columns, sums)
    rest = resp.shape[0] - whole
    for f in range(0, left.size, 2):
        g = min(f + 1, left.size - 1)
        if rest == 3:
            _statistics_3(resp, whole, left, right, f, g, z, columns, sums)
        elif rest == 2:
            _statistics_2(resp, whole, left, right, f, g, z, columns, sums)
        elif rest == 1:
            _statistics_1(resp, whole, left, right, f, g, z, columns, sums)


@compiled
def accumulate_strips(resp: Array, products: Products, z: Array, sums: Array) -> None:
    """sums float64 += T·Rᵀ for resp (K, b); sums have at least F rows, an even number, and K columns."""
    left, right = products.left, products.right
    whole = resp.shape[1] - resp.shape[1] % (VECTOR_BYTES // resp.itemsize)
    if whole:
        _accumulate(resp, left, right, z, whole, sums)
    for k in range(resp.shape[0]):
        for f in range(left.size):
            one, other = left[f], right[f]
            for i in range(whole, resp.shape[1]):
                sums[f, k] += resp[k, i] * (z[one, i] * z[other, i])
