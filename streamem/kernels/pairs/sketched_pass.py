"""The E-step of a Gaussian mixture over a chunk, where a sketch rules out most components; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import load_block, multiply_features, rows_of_block
from streamem.kernels.pairs.active_pairs import load_rows
from streamem.kernels.pairs.pair_buffers import Gaussians, PairBuffers
from streamem.kernels.pairs.pair_steps import pairs_log_prob, share_pairs
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


@compiled_inside
def nominate(bounds: Array, log_weights: Array, best: Array, top: Array, rows: Array, starts: Array) -> None:
    """The component with the largest bound for each row, and the rows (b,) of each component, in order.

    bounds (K, b) float32 get the log-weights added; starts (K + 1,) says where each component's rows begin.
    """
    k_all, b = bounds.shape
    best[:] = np.float32(-np.inf)
    top[:] = 0
    for k in range(k_all):
        row, log_weight = bounds[k], np.float32(log_weights[k])
        for i in range(b):
            value = row[i] + log_weight
            row[i] = value
            top[i] = k if value > best[i] else top[i]
            best[i] = value if value > best[i] else best[i]
    starts[:] = 0
    for i in range(b):
        starts[top[i] + 1] += 1
    for k in range(k_all):
        starts[k + 1] += starts[k]
    for i in range(b):
        rows[starts[top[i]]] = i
        starts[top[i]] += 1
    for k in range(k_all, 0, -1):
        starts[k] = starts[k - 1]
    starts[0] = 0


@compiled_inside
def add_rivals(
    bounds: Array,
    log_weights: Array,
    gaussians: Gaussians,
    top: Array,
    top_rows: Array,
    top_starts: Array,
    top_values: Array,
    cut: Array,
    buffers: PairBuffers,
    begins: Array,
) -> None:
    """All pairs that may matter: the nominated ones with their log-densities, then, from `begins` on, their rivals."""
    k_all, b = bounds.shape
    rows, starts, values = buffers.rows, buffers.starts, buffers.values
    for k in range(k_all):
        for p in range(top_starts[k], top_starts[k + 1]):
            exact = top_values[p] + log_weights[k]
            cut[top_rows[p]] = np.float32(exact - gaussians.width if exact >= gaussians.ordinary else -np.inf)
    count = 0
    for k in range(k_all):
        starts[k] = count
        for p in range(top_starts[k], top_starts[k + 1]):
            rows[count] = top_rows[p]
            values[count] = top_values[p]
            count += 1
        begins[k] = count
        row = bounds[k]
        for i in range(b):
            rows[count] = i
            count += 0 if row[i] < cut[i] or top[i] == k else 1
    starts[k_all] = count


@compiled_inside
def project(x: Array, directions: Array, chosen: Array, out: Array) -> None:
    """Bᵀx of rows x (b, d) into out (b, r), or the chosen features."""
    if directions.size:
        np.dot(x, directions, out)
        return
    for i in range(x.shape[0]):
        for j in range(chosen.size):
            out[i, j] = x[i, chosen[j]]


@compiled
def sketched_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    center: Array,
    unscale: Array,
    directions: Array,
    chosen: Array,
    products: Products,
    gaussians: Gaussians,
    buffers: PairBuffers,
    sums: Array,
    moments: Array,
    occupied: Array,
    least: float,
) -> tuple[float, float]:
    """Log-likelihood and number of active pairs of x (n, d), weighted; adds to sums, moments and occupied.

    `products` are those of the sketch: natural parameters of rows Bᵀx̃, or of the chosen features where there is no B.
    Factors and moments have three axes for covariance matrices, two for variances.
    """
    n, k_all, block = x.shape[0], occupied.size, buffers.x.shape[0]
    rows, starts = buffers.rows, buffers.starts
    top, top_rows, top_values = np.empty(block, np.int32), np.empty(block, np.int32), np.empty(block)
    top_starts, begins, best = np.empty(k_all + 1, np.int64), np.empty(k_all, np.int64), np.empty(block, np.float32)
    projected = np.empty((block, max(chosen.size, directions.shape[1])))
    log_likelihood, pairs = 0.0, 0.0
    start, b = 0, 0
    while start + b < n:
        start += b
        b = rows_of_block(n - start, block, products.strips)
        w = weight[start : start + b] if weight.size else weight
        load_rows(x[start : start + b], center, unscale, buffers.x)
        project(buffers.x[:b], directions, chosen, projected[:b])
        z = load_block(projected[:b], products)
        bounds = buffers.joint[: k_all * b].reshape(k_all, b)
        multiply_features(products, z, bounds)
        nominate(bounds, log_weights, best[:b], top[:b], top_rows, top_starts)
        firsts, lasts = top_starts[:-1], top_starts[1:]
        pairs_log_prob(buffers.x, gaussians, gaussians.factors, top_rows, firsts, lasts, top_values, buffers)
        add_rivals(bounds, log_weights, gaussians, top, top_rows, top_starts, top_values, best[:b], buffers, begins)
        pairs_log_prob(buffers.x, gaussians, gaussians.factors, rows, begins, starts[1:], buffers.values, buffers)
        added = share_pairs(b, w, log_weights, gaussians, buffers, sums, moments, occupied, least)
        log_likelihood += added[0]
        pairs += added[1]
    return log_likelihood, pairs
