"""Products of matrices with features in strips of rows that stay in registers: what `strip_code` leaves over.

Measured on AVX2 (AMD Zen 3, one thread): 33 to 38 GFLOP/s in float64 and 64 to 79 in float32 where a square product of
OpenBLAS reaches 45 and 92.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.group_llvm import accumulate_row, accumulate_two_rows, multiply_group
from streamem.kernels.features.strip_llvm import accumulate, multiply
from streamem.kernels.tiling import MOST_AT_ONCE, STRIP_BYTES, Products
from streamem.machine.compiled import compiled_inside
from streamem.machine.lanes import VECTOR_BYTES

Array = NDArray[Any]

NEAR_FEATURES = 16
"""Whose rows of z stay in the first-level cache while all components go by."""


@compiled_inside
def part_size(left: int) -> int:
    """Components that are next at work together: `left` is cut into the fewest groups of nearly equal size.

    A feature is made once for all components of a part, and a part of one or two would wait for its few sums.
    """
    parts = -(-left // MOST_AT_ONCE)
    return -(-left // parts)


@compiled_inside
def _multiply(natural: Array, left: Array, right: Array, groups: Array, z: Array, columns: int, out: Array) -> None:
    """The first columns, whole strips."""
    rows, k_all = STRIP_BYTES // natural.itemsize, natural.shape[0]
    if groups.shape[0]:
        out[:, :columns] = 0
    k = 0
    while k < k_all:
        size = part_size(k_all - k)
        for start in range(0, columns, rows):
            if groups.shape[0] == 0:
                multiply(natural, size, k, left, right, z, start, out)
            for g in range(groups.shape[0]):
                a, b, first, count = groups[g, 0], groups[g, 1], groups[g, 2], groups[g, 3]
                multiply_group(natural, size, k, a, b, first, count, z, start, out)
        k += size


@compiled_inside
def multiply_strips(products: Products, z: Array, out: Array) -> None:
    """out (K, b) = η·T."""
    natural, last, scores = products.natural[0], products.panel, products.scores
    whole = z.shape[1] - z.shape[1] % last.shape[1]
    _multiply(natural, products.left, products.right, products.groups, z, whole, out)
    rest = z.shape[1] - whole
    if rest == 0:
        return
    for j in range(last.shape[0]):
        for i in range(rest):
            last[j, i] = z[j, whole + i]
        last[j, rest:] = 0
    _multiply(natural, products.left, products.right, products.groups, last, last.shape[1], scores)
    for k in range(scores.shape[0]):
        for i in range(rest):
            out[k, whole + i] = scores[k, i]


@compiled_inside
def _accumulate(resp: Array, left: Array, right: Array, z: Array, columns: int, sums: Array) -> None:
    """Over the first columns, whole vectors. An odd last feature meets itself, in a row of sums that nobody reads."""
    k_all = resp.shape[0]
    for first in range(0, left.size, NEAR_FEATURES):
        k = 0
        while k < k_all:
            size = part_size(k_all - k)
            for f in range(first, min(first + NEAR_FEATURES, left.size), 2):
                accumulate(resp, size, k, left, right, f, min(f + 1, left.size - 1), z, columns, sums)
            k += size


@compiled_inside
def _accumulate_groups(resp: Array, groups: Array, z: Array, columns: int, buffer: Array, sums: Array) -> None:
    """Add statistics of a block, group by group of features."""
    k_all = resp.shape[0]
    weighted = buffer.reshape(buffer.size)[: MOST_AT_ONCE * columns].reshape(MOST_AT_ONCE, columns)
    for g in range(groups.shape[0]):
        left, right, first, count = groups[g, 0], groups[g, 1], groups[g, 2], groups[g, 3]
        shared = z[left]
        k = 0
        while k < k_all:
            size = part_size(k_all - k)
            for c in range(size):
                target, source = weighted[c], resp[k + c]
                for i in range(columns):
                    target[i] = source[i] * shared[i]
            for j in range(0, count - 1, 2):
                accumulate_two_rows(weighted, size, k, right + j, first + j, z, columns, sums)
            if count % 2:
                accumulate_row(weighted, size, k, right + count - 1, first + count - 1, z, columns, sums)
            k += size


@compiled_inside
def accumulate_strips(resp: Array, products: Products, z: Array, sums: Array) -> None:
    """sums float64 += T·Rᵀ for resp (K, b); sums have at least F rows, an even number, and K columns."""
    left, right = products.left, products.right
    whole = resp.shape[1] - resp.shape[1] % (VECTOR_BYTES // resp.itemsize)
    if whole and products.groups.shape[0]:
        _accumulate_groups(resp, products.groups, z, whole, products.weighted, sums)
    elif whole:
        _accumulate(resp, left, right, z, whole, sums)
    for k in range(resp.shape[0]):
        for f in range(left.size):
            one, other = left[f], right[f]
            for i in range(whole, resp.shape[1]):
                sums[f, k] += resp[k, i] * (z[one, i] * z[other, i])
