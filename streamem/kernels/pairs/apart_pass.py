"""Gaussian E-steps by products of features for some components, by differences over pairs for others; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import (
    accumulate_posterior,
    load_block,
    loaded_rows,
    multiply_features,
    rows_of_block,
)
from streamem.kernels.pairs.active_pairs import load_row
from streamem.kernels.pairs.apart_buffers import Apart, Room
from streamem.kernels.pairs.apart_pairs import count_active, find_pairs, join_pairs
from streamem.kernels.pairs.pair_buffers import PairBuffers
from streamem.kernels.pairs.pair_steps import pairs_log_prob, pairs_statistics, weigh_pairs
from streamem.kernels.shares import count_pairs, log_likelihood_of
from streamem.kernels.tiling import Products
from streamem.machine.compiled import compiled, compiled_inside
from streamem.machine.log_sum_exp import normalize
from streamem.machine.row_major import scaled

Array = NDArray[Any]


@compiled_inside
def _cut_below(high: Array, width: float, slack: float, cut: Array) -> None:
    """What lies `width` nats below the highest does not matter, nor what rounding of that says."""
    for i in range(high.size):
        cut[i] = -np.inf if high[i] == -np.inf else high[i] - width - slack * abs(high[i])


@compiled_inside
def _weigh(resp: Array, weight: Array, room: Room, joined: bool) -> None:
    """resp (L, b) times weight (b,), and factors where pairs were joined."""
    factor = room.factor
    for k in range(resp.shape[0]):
        row = resp[k]
        if joined:
            for i in range(row.size):
                row[i] = row[i] * factor[i] if factor[i] > 0.0 else 0.0
        if weight.size:
            for i in range(row.size):
                row[i] *= weight[i]


@compiled
def add_pairs(origins: Array, sums: Array, moments: Array, buffers: PairBuffers) -> None:
    """Statistics over pairs of anchored rows, about the components' origins."""
    pairs_statistics(buffers.x, buffers.values, origins, sums, moments, buffers)


@compiled
def apart_pass(
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
    apart: Apart,
    apart_log_weights: Array,
    slack: float,
    room: Room,
    buffers: PairBuffers,
    apart_sums: Array,
    apart_moments: Array,
    occupied: Array,
) -> tuple[float, float]:
    """`mixture_pass` for L components, of which there may be none, and S others over pairs.

    Adds to sums what L components get, to apart_sums, apart_moments and occupied (S,) what the others get.
    """
    n, some, block = x.shape[0], log_weights.size, scratch.shape[1]
    tile, width, factors = products.panel.shape[1], apart.gaussians.width, apart.gaussians.factors
    log_likelihood, pairs = 0.0, 0.0
    start, b = 0, 0
    while start + b < n:
        start += b
        b = rows_of_block(n - start, block, products.strips)
        w, chosen = weight[start : start + b] if weight.size else weight, x[start : start + b]
        high, inverse, active = room.high[:b], room.inverse[:b], room.active[:b]
        posterior = joint[: some * b].reshape(some, b)
        z = loaded_rows(products, b)
        if some:
            load_block(chosen, products)
            multiply_features(products, z, posterior)
            normalize(posterior, log_weights, scratch[0, :b], scratch[1, :b], scratch[2, :b], least)
            for i in range(b):
                high[i], inverse[i], active[i] = scratch[0, i], scratch[1, i], scratch[2, i]
        else:
            high[:], inverse[:], active[:] = -np.inf, 1.0, 0.0
        _cut_below(high, width, slack, room.cut)
        found = find_pairs(
            chosen, products.center, products.unscale, apart_log_weights, width, apart, factors, room, buffers
        )
        if found:
            join_pairs(apart_log_weights, room, buffers, b)
            count_active(posterior, least, room, buffers)
        log_likelihood += log_likelihood_of(high, inverse, w)
        pairs = count_pairs(active, w, pairs)
        _weigh(posterior, w, room, found > 0)
        if some:
            accumulate_posterior(posterior, products, z, resp, product, sums, block <= tile)
        if found:
            weigh_pairs(buffers.values, w, buffers, occupied)
            add_pairs(apart.gaussians.origins, apart_sums, apart_moments, buffers)
    return log_likelihood, pairs


@compiled
def apart_densities(
    x: Array,
    products: Products,
    block: int,
    joint: Array,
    together: Array,
    apart: Apart,
    members: Array,
    width: float,
    slack: float,
    room: Room,
    buffers: PairBuffers,
    b: Array,
    peaks: Array,
) -> None:
    """`densities_pass` for L components by products, and S others: 0 where further than `width` below.

    members (K,) are the L components, and then the S others; joint (L · rows,) and together (K · rows,) are buffers.
    """
    n, others = x.shape[0], apart.gaussians.means.shape[0]
    k_all, some = members.size, members.size - others
    nothing, factors = np.zeros(others), apart.gaussians.factors
    for start in range(0, n, block):
        rows = min(block, n - start)
        chosen, high = x[start : start + rows], room.high[:rows]
        log_prob = together[: k_all * rows].reshape(k_all, rows)
        high[:] = -np.inf
        if some:
            z = load_block(chosen, products)
            scores = joint[: some * rows].reshape(some, rows)
            multiply_features(products, z, scores)
            for k in range(some):
                target, source = log_prob[members[k]], scores[k]
                for i in range(rows):
                    target[i] = source[i]
                    high[i] = max(high[i], target[i])
        _cut_below(high, width, slack, room.cut)
        find_pairs(chosen, products.center, products.unscale, nothing, width, apart, factors, room, buffers)
        for s in range(others):
            target = log_prob[members[some + s]]
            target[:] = -np.inf
            for p in range(buffers.starts[s], buffers.starts[s + 1]):
                target[buffers.rows[p]] = buffers.values[p]
        scaled(log_prob, b[start : start + rows], peaks[start : start + rows])


@compiled
def accumulate_apart_rows(
    x: Array,
    products: Products,
    block: int,
    weights: Array,
    members: Array,
    joint: Array,
    resp: Array,
    product: Array,
    sums: Array,
    origins: Array,
    buffers: PairBuffers,
    apart_sums: Array,
    apart_moments: Array,
) -> None:
    """Statistics of x (n, d) with weights (n, at least K); of the S others over pairs whose weight is not 0."""
    n, others = x.shape[0], origins.shape[0]
    some = members.size - others
    for start in range(0, n, block):
        rows = min(block, n - start)
        chosen, own = x[start : start + rows], weights[start : start + rows]
        if some:
            z = load_block(chosen, products)
            posterior = joint[: some * rows].reshape(some, rows)
            for i in range(rows):
                for k in range(some):
                    posterior[k, i] = own[i, members[k]]
            accumulate_posterior(posterior, products, z, resp, product, sums, False)
        found = 0
        for s in range(others):
            buffers.starts[s] = found
            for i in range(rows):
                value = own[i, members[some + s]]
                buffers.rows[found], buffers.values[found] = i, value
                found += 1 if value != 0.0 else 0
        buffers.starts[others] = found
        for i in range(rows if found else 0):
            load_row(chosen[i], products.center, products.unscale, buffers.x[i])
        add_pairs(origins, apart_sums, apart_moments, buffers)


@compiled
def log_prob_of_all(apart: Apart, factors: Array, rows: int, buffers: PairBuffers) -> None:
    """Values of all pairs of so many anchored rows, one component after another."""
    for s in range(apart.gaussians.means.shape[0]):
        buffers.starts[s] = s * rows
        for i in range(rows):
            buffers.rows[s * rows + i] = i
    buffers.starts[apart.gaussians.means.shape[0]] = apart.gaussians.means.shape[0] * rows
    begins, ends = buffers.starts[:-1], buffers.starts[1:]
    pairs_log_prob(buffers.x, apart.gaussians, factors, buffers.rows, begins, ends, buffers.values, buffers)
