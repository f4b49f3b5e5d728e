"""Densities of many rows, and statistics of rows whose weights are known, compiled: one call for many blocks.

Recursions along rows want values row after row, and threads that met at the interpreter's lock five times a block took
longer together than one alone (measured: diagonal Gaussians, 10 features, 8 states).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.feature_products import (
    accumulate_features,
    accumulate_posterior,
    load_block,
    multiply_features,
)
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled
from streamem.machine.row_major import columns, scaled

Array = NDArray[Any]


@compiled
def densities_of_rows(x: Array, products: Products, joint: Array, b: Array, peaks: Array) -> None:
    """b (n, width) = exp(log-density − largest of its row) and peaks (n,), those largest, of x (n, d).

    joint (K · rows of a block,) is a buffer.
    """
    n, k = x.shape[0], products.natural.shape[1]
    block = joint.size // k
    for start in range(0, n, block):
        rows = min(block, n - start)
        z = products.z_buffer[: products.z_rows * rows].reshape(products.z_rows, rows)
        load_block(x[start : start + rows], products, z)
        log_prob = joint[: k * rows].reshape(k, rows)
        multiply_features(products, z, log_prob)
        scaled(log_prob, b[start : start + rows], peaks[start : start + rows])


@compiled
def accumulate_rows(
    x: Array, products: Products, block: int, weights: Array, resp: Array, product: Array, sums: Array, loaded: bool
) -> None:
    """Add the statistics of x (n, d) with weights (n, at least K); resp (whole tiles or rows of a block, K) and
    product are buffers.

    What is `loaded` already is not loaded again if it is a single block.
    """
    n, k, tile = x.shape[0], products.natural.shape[1], products.panel.shape[1]
    for start in range(0, n, block):
        rows = min(block, n - start)
        z = products.z_buffer[: products.z_rows * rows].reshape(products.z_rows, rows)
        if not (loaded and n <= block):
            load_block(x[start : start + rows], products, z)
        if products.strips:
            posterior = resp.reshape(resp.size)[: k * rows].reshape(k, rows)
            columns(weights[start : start + rows], posterior)
            accumulate_posterior(posterior, products, z, resp, product, sums, False)
            continue
        for i in range(rows):
            source, target = weights[start + i], resp[i]
            for j in range(k):
                target[j] = source[j]
        resp[rows : -(-rows // tile) * tile] = 0
        accumulate_features(resp, products, z, product, sums, False)
