"""The E-step of a Gaussian mixture over a chunk through the pairs that matter, compiled."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.feature_products import load_block, multiply_features, rows_of_block
from streamem.kernels.pairs.active_pairs import load_rows, select
from streamem.kernels.pairs.pair_buffers import Gaussians, PairBuffers
from streamem.kernels.pairs.pair_steps import pairs_log_prob, share_pairs
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled

Array = NDArray[Any]


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
        z = load_block(chosen, products)
        scores = buffers.joint[: k_all * b].reshape(k_all, b)
        multiply_features(products, z, scores)
        select(scores, log_weights, gaussians.width, gaussians.ordinary, rows, starts)
        load_rows(chosen, products.center, products.unscale, anchored)
        values = buffers.values[: starts[k_all]]
        pairs_log_prob(anchored, gaussians, gaussians.factors, rows, starts[:-1], starts[1:], values, buffers)
        added = share_pairs(b, w, log_weights, gaussians, buffers, sums, moments, occupied, least)
        log_likelihood += added[0]
        pairs += added[1]
    return log_likelihood, pairs
