"""The E-step of a Gaussian mixture over a chunk through the pairs that matter, compiled."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.feature_products import load_block, multiply_features, rows_of_block
from streamem.kernels.features.mixture_pass import log_likelihood_of
from streamem.kernels.pairs.active_pairs import (
    load_rows,
    matrix_log_prob,
    matrix_statistics,
    normalize_pairs,
    select,
    variance_log_prob,
    variance_statistics,
)
from streamem.kernels.pairs.pair_buffers import Gaussians, PairBuffers
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled

Array = NDArray[Any]


@compiled
def sum_block(
    rows: Array, starts: Array, values: Array, weight: Array, scratch: Array, occupied: Array
) -> tuple[float, float]:
    """Weighted log-likelihood and number of active pairs; weighs the responsibilities and adds them by component."""
    pairs = 0.0
    for i in range(scratch.shape[1]):
        pairs += scratch[2, i] * weight[i] if weight.size else scratch[2, i]
    for k in range(occupied.size):
        for p in range(starts[k], starts[k + 1]):
            if weight.size:
                values[p] *= weight[rows[p]]
            occupied[k] += values[p]
    return log_likelihood_of(scratch[0], scratch[1], weight), pairs


@compiled
def screened_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    products: Products,
    gaussians: Gaussians,
    buffers: PairBuffers,
    sums: Array,
    moments: Array,
    occupied: Array,
    least: float,
) -> tuple[float, float]:
    """Log-likelihood and number of active pairs of x (n, d), weighted; adds to sums, moments and occupied.

    Factors and moments have three axes for covariance matrices, two for variances.
    """
    n, k_all, block = x.shape[0], occupied.size, buffers.x.shape[0]
    rows, starts = buffers.rows, buffers.starts
    log_likelihood, pairs = 0.0, 0.0
    start, b = 0, 0
    while start + b < n:
        start += b
        b = rows_of_block(n - start, block, products.strips)
        w = weight[start : start + b] if weight.size else weight
        chosen, anchored = x[start : start + b], buffers.x
        z = products.z_buffer[: products.z_rows * b].reshape(products.z_rows, b)
        load_block(chosen, products, z)
        scores = buffers.joint[: k_all * b].reshape(k_all, b)
        multiply_features(products, z, scores)
        select(scores, log_weights, gaussians.width, gaussians.ordinary, rows, starts)
        load_rows(chosen, products.center, products.unscale, anchored)
        values, known = buffers.values[: starts[k_all]], buffers.scratch[:, :b]
        if moments.ndim == 3:
            matrix_log_prob(anchored, gaussians, rows, starts[:-1], starts[1:], values, buffers)
        else:
            variance_log_prob(anchored, gaussians, rows, starts[:-1], starts[1:], values)
        normalize_pairs(rows, starts, values, log_weights, known[0], known[1], known[2], least)
        added = sum_block(rows, starts, values, w, known, occupied)
        log_likelihood += added[0]
        pairs += added[1]
        if moments.ndim == 3:
            matrix_statistics(anchored, rows, starts, values, gaussians.origins, sums, moments, buffers)
        else:
            variance_statistics(anchored, rows, starts, values, gaussians.origins, sums, moments)
    return log_likelihood, pairs
