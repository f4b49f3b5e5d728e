"""Categorical data compiled: a row's log-probabilities are a sum of rows of a table, its statistics are added to them.

Tables have the component last, so that one look-up of a code serves all components by contiguous additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import transpose_blockwise
from streamem.kernels.features.mixture_pass import log_likelihood_of
from streamem.machine.compiled import compiled
from streamem.machine.log_sum_exp import normalize
from streamem.machine.row_major import scaled

Array = NDArray[Any]


@compiled
def places_of(x: Array, starts: Array, places: Array) -> int:
    """places (b, d) in the table of codes x (b, d); the position of the first that is no known code, or −1.

    NaN is taken for code 0.
    """
    for i in range(x.shape[0]):
        row, target = x[i], places[i]
        for j in range(row.size):
            value = row[j]
            if value < 0 or value >= starts[j + 1] - starts[j] or value - np.floor(value) > 0:
                return i * row.size + j
            target[j] = starts[j] + (np.int32(value) if value == value else 0)
    return -1


@compiled
def look_up(places: Array, table: Array, near: Array, out: Array) -> None:
    """out (K, b) = Σ_j table[places_j] for places (b, d), table (V, K); near (rows of a tile, K) is a buffer."""
    b, d = places.shape
    for start in range(0, b, near.shape[0]):
        rows = min(near.shape[0], b - start)
        for i in range(rows):
            target = near[i]
            target[:] = 0
            for j in range(d):
                source = table[places[start + i, j]]
                for k in range(target.size):
                    target[k] += source[k]
        for k in range(out.shape[0]):
            row = out[k, start : start + rows]
            for i in range(row.size):
                row[i] = near[i, k]


@compiled
def add_at(places: Array, resp: Array, sums: Array, weight: Array) -> None:
    """sums (V, K)[places_j] += resp and weight (K,) += resp, row by row of places (b, d) and resp (b, at least K)."""
    for i in range(places.shape[0]):
        values = resp[i]
        for k in range(weight.size):
            weight[k] += values[k]
        for j in range(places.shape[1]):
            target = sums[places[i, j]]
            for k in range(target.size):
                target[k] += values[k]


@compiled
def densities_of_codes(
    x: Array, starts: Array, table: Array, places: Array, near: Array, joint: Array, b: Array, peaks: Array
) -> int:
    """b (n, width) = exp(log-probability − largest of its row) and peaks (n,), those largest, of codes x (n, d); the
    position of an unknown code or −1.
    """
    k, block = table.shape[1], places.shape[0]
    for start in range(0, x.shape[0], block):
        rows = min(block, x.shape[0] - start)
        bad = places_of(x[start : start + rows], starts, places)
        if bad >= 0:
            return start * x.shape[1] + bad
        log_prob = joint[: k * rows].reshape(k, rows)
        look_up(places[:rows], table, near, log_prob)
        scaled(log_prob, b[start : start + rows], peaks[start : start + rows])
    return -1


@compiled
def accumulate_codes(x: Array, starts: Array, places: Array, weights: Array, sums: Array, occupied: Array) -> int:
    """Add weights (n, at least K) of codes x (n, d) to sums (V, K) and occupied (K,); see above for what it returns."""
    block = places.shape[0]
    for start in range(0, x.shape[0], block):
        rows = min(block, x.shape[0] - start)
        bad = places_of(x[start : start + rows], starts, places)
        if bad >= 0:
            return start * x.shape[1] + bad
        add_at(places[:rows], weights[start : start + rows], sums, occupied)
    return -1


@compiled
def categorical_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    starts: Array,
    table: Array,
    places: Array,
    near: Array,
    joint: Array,
    scratch: Array,
    resp: Array,
    sums: Array,
    occupied: Array,
    least: float,
) -> tuple[int, float, float]:
    """The E-step of a mixture over x (n, d): position of an unknown code or −1, log-likelihood, active pairs.

    Adds to sums (V, K) and occupied (K,). Blocks have as many rows as places (rows, d).
    """
    n, k_all, block = x.shape[0], log_weights.size, places.shape[0]
    log_likelihood, pairs = 0.0, 0.0
    for start in range(0, n, block):
        b = min(block, n - start)
        w = weight[start : start + b] if weight.size else weight
        bad = places_of(x[start : start + b], starts, places)
        if bad >= 0:
            return start * x.shape[1] + bad, 0.0, 0.0
        posterior = joint[: k_all * b].reshape(k_all, b)
        look_up(places[:b], table, near, posterior)
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
        transpose_blockwise(posterior, resp)
        add_at(places[:b], resp, sums, occupied)
    return -1, log_likelihood, pairs
