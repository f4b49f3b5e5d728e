"""Which components may matter to a row, their exact log-densities, and statistics over those alone; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.strips import part_size
from streamem.kernels.pairs.pair_buffers import STRIP_ROWS, Gaussians, PairBuffers
from streamem.kernels.pairs.pair_llvm import add_products, add_squares, turn_differences
from streamem.machine.compiled import compiled, compiled_inside, exp_nonpositive
from streamem.machine.lanes import LANES

Array = NDArray[Any]


@compiled_inside
def load_row(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """(x − center) / scale of one row (d,) into out (d,) float64."""
    for j in range(center.size):
        out[j] = (x[j] - center[j]) * inverse_scale[j]


@compiled
def load_rows(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """Write anchored rows x (b, d) into out (b, d)."""
    for i in range(x.shape[0]):
        load_row(x[i], center, inverse_scale, out[i])


@compiled_inside
def select(scores: Array, log_weights: Array, margin: float, ordinary: float, rows: Array, starts: Array) -> None:
    """Pairs within `margin` nats of the best score of their row; all of a row whose best score is not `ordinary`.

    scores (K, b) float32 are log-densities without the weights; a score that is not a number is kept.
    """
    k_all, b = scores.shape
    cut = np.full(b, np.float32(-np.inf))
    for k in range(k_all):
        row, log_weight = scores[k], np.float32(log_weights[k])
        for i in range(row.size):
            value = row[i] + log_weight
            row[i] = value
            cut[i] = value if value > cut[i] else cut[i]
    for i in range(b):
        cut[i] = cut[i] - np.float32(margin) if cut[i] >= ordinary else np.float32(-np.inf)
    count = 0
    for k in range(k_all):
        starts[k] = count
        row = scores[k]
        for i in range(b):
            rows[count] = i
            count += 0 if row[i] < cut[i] else 1
    starts[k_all] = count


@compiled_inside
def _load_differences(x: Array, rows: Array, mean: Array, strips: Array) -> None:
    """x̃ − m of these rows, strip by strip (s, d, STRIP_ROWS), the last vector filled up with the last row."""
    d, last = mean.size, rows.size - 1
    whole = d - d % LANES
    for first in range(0, rows.size, LANES):
        strip, column = strips[first // STRIP_ROWS], first % STRIP_ROWS
        for j in range(0, whole, LANES):
            turn_differences(x, rows, first, mean, j, strip, column)
        for j in range(whole, d):
            for r in range(LANES):
                strip[j, column + r] = x[rows[min(first + r, last)], j] - mean[j]


@compiled
def matrix_log_prob(
    x: Array, gaussians: Gaussians, rows: Array, begins: Array, ends: Array, values: Array, buffers: PairBuffers
) -> None:
    """values[p] = constant_k − ½ |U_kᵀ(x̃ − m_k)|² for begins[k] ≤ p < ends[k], and Uᵀ (K, d, d), or one for all."""
    d, strips, squares = x.shape[1], buffers.strips, buffers.squares
    for k in range(gaussians.means.shape[0]):
        factor = gaussians.factors[min(k, gaussians.factors.shape[0] - 1)]
        constant = gaussians.constants[k]
        for first in range(begins[k], ends[k], squares.size):
            count = min(squares.size, ends[k] - first)
            n_strips = -(-count // STRIP_ROWS)
            _load_differences(x, rows[first : first + count], gaussians.means[k], strips)
            squares[:] = 0.0
            i = 0
            while i < d:
                size = part_size(d - i)
                for s in range(n_strips):
                    add_squares(factor, size, i, i + size, strips[s], squares, s * STRIP_ROWS)
                i += size
            for r in range(count):
                values[first + r] = constant - 0.5 * squares[r]


@compiled
def matrix_statistics(
    x: Array,
    rows: Array,
    starts: Array,
    values: Array,
    origins: Array,
    sums: Array,
    moments: Array,
    buffers: PairBuffers,
) -> None:
    """sums (K, 1 + d) += Σ r·[1, y] and moments (K or 1, d, whole strips) += Σ r·yyᵀ from the diagonal on.

    y = x̃ − origin of the component, (K, d).
    """
    d, plain, weighted = x.shape[1], buffers.plain, buffers.weighted
    plain[:, d:] = 0.0
    for k in range(sums.shape[0]):
        origin, own = origins[k], moments[min(k, moments.shape[0] - 1)]
        for first in range(starts[k], starts[k + 1], plain.shape[0]):
            count = min(plain.shape[0], starts[k + 1] - first)
            for r in range(count):
                resp, source, one, other = values[first + r], x[rows[first + r]], plain[r], weighted[r]
                sums[k, 0] += resp
                target = sums[k, 1:]
                for j in range(source.size):
                    one[j] = source[j] - origin[j]
                    other[j] = resp * one[j]
                    target[j] += other[j]
            i = 0
            while i < d:
                size = part_size(d - i)
                for j in range(i - i % STRIP_ROWS, moments.shape[2], STRIP_ROWS):
                    add_products(weighted, size, i, count, plain, j, own)
                i += size


@compiled_inside
def variance_log_prob(x: Array, gaussians: Gaussians, rows: Array, begins: Array, ends: Array, values: Array) -> None:
    """values[p] = constant_k − ½ Σ_j (U_kj (x̃_j − m_kj))² for begins[k] ≤ p < ends[k], and U (K, d)."""
    d = x.shape[1]
    whole = d - d % 4
    for k in range(gaussians.means.shape[0]):
        mean, factor, constant = gaussians.means[k], gaussians.factors[k], gaussians.constants[k]
        for p in range(begins[k], ends[k]):
            row = x[rows[p]]
            a = b = c = e = 0.0  # four sums at a time: one alone waits for itself at every addition
            for j in range(0, whole, 4):
                u, v = (row[j] - mean[j]) * factor[j], (row[j + 1] - mean[j + 1]) * factor[j + 1]
                w, y = (row[j + 2] - mean[j + 2]) * factor[j + 2], (row[j + 3] - mean[j + 3]) * factor[j + 3]
                a += u * u
                b += v * v
                c += w * w
                e += y * y
            for j in range(whole, d):
                u = (row[j] - mean[j]) * factor[j]
                a += u * u
            values[p] = constant - 0.5 * ((a + b) + (c + e))


@compiled_inside
def variance_statistics(
    x: Array, rows: Array, starts: Array, values: Array, origins: Array, sums: Array, moments: Array
) -> None:
    """sums (K, 1 + d) += Σ r·[1, y] and moments (K, d) += Σ r·y², y = x̃ − origin of the component (K, d)."""
    for k in range(sums.shape[0]):
        first, second, origin = sums[k, 1:], moments[k], origins[k]
        for p in range(starts[k], starts[k + 1]):
            row, resp = x[rows[p]], values[p]
            sums[k, 0] += resp
            for j in range(row.size):
                value = row[j] - origin[j]
                weighted = resp * value
                first[j] += weighted
                second[j] += weighted * value


@compiled_inside
def normalize_pairs(
    rows: Array,
    starts: Array,
    values: Array,
    log_weights: Array,
    peak: Array,
    inverse: Array,
    active: Array,
    least: float,
) -> None:
    """Log-densities of pairs → responsibilities in place, by log-sum-exp over the pairs of each row.

    For every row (b,): the largest joint log-density, the inverse of the sum relative to it, and how many
    responsibilities exceed `least`.
    """
    peak[:] = -np.inf
    inverse[:] = 0
    active[:] = 0
    for k in range(log_weights.size):
        for p in range(starts[k], starts[k + 1]):
            values[p] += log_weights[k]
            peak[rows[p]] = max(peak[rows[p]], values[p])
    for p in range(values.size):
        values[p] -= peak[rows[p]]
    for p in range(values.size):
        values[p] = exp_nonpositive(values[p])
    for p in range(values.size):
        inverse[rows[p]] += values[p]
    for i in range(inverse.size):
        inverse[i] = 1 / inverse[i]
    for p in range(values.size):
        values[p] *= inverse[rows[p]]
        active[rows[p]] += values[p] > least
