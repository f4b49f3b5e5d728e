"""The whole E-step of a mixture over a chunk, compiled: nothing goes back to the interpreter between blocks of rows.

With blocks small enough for the cache a block costs tens of microseconds, and threads that met at the interpreter's
lock after every block took longer together than one alone (measured: 2 features, 4 components).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import (
    accumulate_posterior,
    load_block,
    multiply_features,
    rows_of_block,
)
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled
from streamem.machine.log_sum_exp import normalize

Array = NDArray[Any]

FACTORS = 16
"""Sums of K exponentials at most 1 whose product still is a float64: one logarithm serves them all."""


@compiled
def log_likelihood_of(peak: Array, inverse: Array, weight: Array) -> float:
    """Σ w·(peak − log inverse), of float32 or float64, in float64."""
    total = 0.0
    if weight.size:
        for i in range(peak.size):
            total += weight[i] * (np.float64(peak[i]) - np.log(np.float64(inverse[i])))
        return total
    for start in range(0, peak.size, FACTORS):
        product = 1.0
        for i in range(start, min(start + FACTORS, peak.size)):
            total += np.float64(peak[i])
            product *= np.float64(inverse[i])
        total -= np.log(product)
    return total


@compiled
def mixture_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    products: Products,
    joint: Array,
    scratch: Array,
    resp: Array,
    product: Array,
    sums: Array,
    least: float,
) -> tuple[float, float]:
    """Log-likelihood and number of active pairs of x (n, d), weighted; adds to sums.

    Blocks have as many rows as scratch (3, rows); joint (K · rows,) is a buffer.
    """
    n, k_all, block, tile = x.shape[0], log_weights.size, scratch.shape[1], products.panel.shape[1]
    log_likelihood, pairs = 0.0, 0.0
    start, b = 0, 0
    while start + b < n:
        start += b
        b = rows_of_block(n - start, block, products.strips)
        w = weight[start : start + b] if weight.size else weight
        z = products.z_buffer[: products.z_rows * b].reshape(products.z_rows, b)
        load_block(x[start : start + b], products, z)
        posterior = joint[: k_all * b].reshape(k_all, b)
        multiply_features(products, z, posterior)
        peak, inverse, active = scratch[0, :b], scratch[1, :b], scratch[2, :b]
        normalize(posterior, log_weights, peak, inverse, active, least)
        log_likelihood += log_likelihood_of(peak, inverse, w)
        for i in range(b):
            pairs += active[i] * w[i] if w.size else active[i]
        if w.size:
            for k in range(k_all):
                row = posterior[k]
                for i in range(row.size):
                    row[i] *= w[i]
        accumulate_posterior(posterior, products, z, resp, product, sums, block <= tile)
    return log_likelihood, pairs
