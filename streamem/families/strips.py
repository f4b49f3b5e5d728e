"""Products of matrices with features in strips of rows that stay in registers: what `strip_code` leaves over.

Measured on AVX2 (AMD Zen 3, one thread): 33 to 38 GFLOP/s in float64 and 64 to 79 in float32 where a square product of
OpenBLAS reaches 45 and 92.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.core.compiled import compiled
from streamem.core.lanes import VECTOR_BYTES
from streamem.families.strip_code import product_of, statistics_of
from streamem.families.tiling import STRIP_BYTES, Products

Array = NDArray[Any]

MOST = 6
"""Components at a time: with twelve sums, two features and a factor, fifteen of AVX2's sixteen registers."""

_product_1, _product_2, _product_3, _product_4, _product_5, _product_6 = (product_of(c) for c in range(1, MOST + 1))
_statistics_1, _statistics_2, _statistics_3, _statistics_4, _statistics_5, _statistics_6 = (
    statistics_of(c) for c in range(1, MOST + 1)
)

NEAR_FEATURES = 16
"""Whose rows of z stay in the first-level cache while all components go by."""


@compiled
def _size(left: int) -> int:
    """Of the next part of so many components, which are cut into the fewest parts of nearly equal size.

    A feature is made once for all components of a part, and a part of one or two would wait for its few sums.
    """
    parts = -(-left // MOST)
    return -(-left // parts)


@compiled
def _multiply(natural: Array, left: Array, right: Array, z: Array, columns: int, out: Array) -> None:
    """The first columns, whole strips."""
    rows, k_all = STRIP_BYTES // natural.itemsize, natural.shape[0]
    k = 0
    while k < k_all:
        size = _size(k_all - k)
        for start in range(0, columns, rows):
            if size == 6:
                _product_6(natural, k, left, right, z, start, out)
            elif size == 5:
                _product_5(natural, k, left, right, z, start, out)
            elif size == 4:
                _product_4(natural, k, left, right, z, start, out)
            elif size == 3:
                _product_3(natural, k, left, right, z, start, out)
            elif size == 2:
                _product_2(natural, k, left, right, z, start, out)
            else:
                _product_1(natural, k, left, right, z, start, out)
        k += size


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
    k_all = resp.shape[0]
    for first in range(0, left.size, NEAR_FEATURES):
        k = 0
        while k < k_all:
            size = _size(k_all - k)
            for f in range(first, min(first + NEAR_FEATURES, left.size), 2):
                g = min(f + 1, left.size - 1)
                if size == 6:
                    _statistics_6(resp, k, left, right, f, g, z, columns, sums)
                elif size == 5:
                    _statistics_5(resp, k, left, right, f, g, z, columns, sums)
                elif size == 4:
                    _statistics_4(resp, k, left, right, f, g, z, columns, sums)
                elif size == 3:
                    _statistics_3(resp, k, left, right, f, g, z, columns, sums)
                elif size == 2:
                    _statistics_2(resp, k, left, right, f, g, z, columns, sums)
                else:
                    _statistics_1(resp, k, left, right, f, g, z, columns, sums)
            k += size


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
