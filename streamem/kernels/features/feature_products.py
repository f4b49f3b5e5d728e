"""Products of matrices with features that are never all there: a panel of them at a time, in the cache.

A feature is the product of two rows of z, whose first row is 1: z_left · z_right. A panel of features of a tile of rows
is filled, multiplied and forgotten, so that memory sees neither (F, b) features nor their second reading; filling them
twice is cheaper. Below 128 components a product has less than a million multiplications, where OpenBLAS skips its
packing: measured on AVX-512, 50 to 75 GFLOP/s a thread in float64 instead of 33 to 55, of a peak of 75.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.anchored_rows import load_anchored
from streamem.kernels.features.strips import accumulate_strips, multiply_strips
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]

TRANSPOSED_ROWS = SPARED_ROWS = 16


@compiled
def rows_of_block(left: int, most: int, strips: bool) -> int:
    """Rows of the next block, of `left`; in strips, 16 of a multiple of 64 are left for the block after it.

    Else the same strip of all features would lie in a few sets of the first-level cache (`tiling.block_rows`).
    """
    if left >= most:
        return most
    return left - SPARED_ROWS if strips and left % 64 == 0 else left


@compiled_inside
def loaded_rows(products: Products, b: int) -> Array:
    """z (rows of z, b) of the block of so many rows that was loaded, or is going to be."""
    return products.z_buffer[: products.z_rows * b].reshape(products.z_rows, b)


@compiled_inside
def load_block(x: Array, products: Products) -> Array:
    """z (rows of z, b) of rows x (b, d): 1, x̃ and where it is wanted |x̃|²."""
    d, z = x.shape[1], loaded_rows(products, x.shape[0])
    z[0] = 1
    load_anchored(x, products.center, products.unscale, z[1 : 1 + d])
    if products.z_rows > 1 + d:
        norm = z[1 + d]
        norm[:] = 0
        for j in range(1, 1 + d):
            row = z[j]
            for i in range(row.size):
                norm[i] += row[i] * row[i]
    return z


@compiled_inside
def _fill(z: Array, left: Array, right: Array, first: int, start: int, panel: Array) -> None:
    """Features `first` onwards of rows `start` onwards; zeros where there are no more."""
    rows = min(panel.shape[1], z.shape[1] - start)
    for f in range(panel.shape[0]):
        target = panel[f]
        if first + f >= left.size:
            target[:] = 0
            continue
        one, other = z[left[first + f], start : start + rows], z[right[first + f], start : start + rows]
        for i in range(one.size):
            target[i] = one[i] * other[i]
        target[rows:] = 0


@compiled
def multiply_features(products: Products, z: Array, out: Array) -> None:
    """out (K, b) = η·T."""
    if products.strips:
        multiply_strips(products, z, out)
        return
    natural, panel, product = products.natural, products.panel, products.scores
    tile = panel.shape[1]
    for start in range(0, z.shape[1], tile):
        for p in range(natural.shape[0]):
            _fill(z, products.left, products.right, p * panel.shape[0], start, panel)
            np.dot(natural[p], panel, out=product)
            for k in range(out.shape[0]):
                target = out[k, start : min(start + tile, z.shape[1])]
                source = product[k]
                if p == 0:
                    for i in range(target.size):
                        target[i] = source[i]
                else:
                    for i in range(target.size):
                        target[i] += source[i]


@compiled_inside
def transpose_blockwise(source: Array, out: Array) -> None:
    """out (b, K) = sourceᵀ, a few rows at a time: written column by column it would miss the cache at every value."""
    for start in range(0, source.shape[1], TRANSPOSED_ROWS):
        target = out[start : min(start + TRANSPOSED_ROWS, source.shape[1])]
        for k in range(source.shape[0]):
            values = source[k, start : start + target.shape[0]]
            for i in range(values.size):
                target[i, k] = values[i]


@compiled_inside
def accumulate_features(resp: Array, products: Products, z: Array, product: Array, sums: Array, filled: bool) -> None:
    """sums (panels, features of a panel, K) float64 += T·Rᵀ, for resp (whole tiles, K), zero beyond the rows of z.

    A panel that is `filled` and is the only one needs no more.
    """
    panel = products.panel
    tile = panel.shape[1]
    for p in range(sums.shape[0]):
        for start in range(0, z.shape[1], tile):
            if not (filled and sums.shape[0] == 1):
                _fill(z, products.left, products.right, p * panel.shape[0], start, panel)
            np.dot(panel, resp[start : start + tile], out=product)
            for f in range(product.shape[0]):
                target, addend = sums[p, f], product[f]
                for k in range(target.size):
                    target[k] += addend[k]


@compiled
def accumulate_posterior(
    posterior: Array, products: Products, z: Array, resp: Array, product: Array, sums: Array, filled: bool
) -> None:
    """Add statistics of a posterior (K, b); resp (whole tiles, K) is a buffer where there are tiles."""
    if products.strips:
        accumulate_strips(posterior, products, z, sums[0])
        return
    b, tile = posterior.shape[1], products.panel.shape[1]
    transpose_blockwise(posterior, resp)
    resp[b : -(-b // tile) * tile] = 0
    accumulate_features(resp, products, z, product, sums, filled)
