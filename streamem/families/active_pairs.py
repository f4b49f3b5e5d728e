"""Which components may matter to a row, their exact log-densities, and statistics over those alone; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.compiled import compiled, exp_nonpositive
from streamem.families.pair_buffers import Gaussians

Array = NDArray[Any]


@compiled
def load_rows(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """(x − center) / scale of rows x (b, d) into out (b, d) float64."""
    for i in range(x.shape[0]):
        source, target = x[i], out[i]
        for j in range(center.size):
            target[j] = (source[j] - center[j]) * inverse_scale[j]


@compiled
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


@compiled
def matrix_log_prob(
    x: Array, gaussians: Gaussians, rows: Array, begins: Array, ends: Array, values: Array, work: Array
) -> None:
    """values[p] = constant_k − ½ |U_kᵀ(x̃ − m_k)|² for begins[k] ≤ p < ends[k], and U (K, d, d); work (2, c, d)."""
    means, factors, constants = gaussians.means, gaussians.factors, gaussians.constants
    difference, whitened = work[0], work[1]
    for k in range(means.shape[0]):
        for first in range(begins[k], ends[k], work.shape[1]):
            count = min(work.shape[1], ends[k] - first)
            for r in range(count):
                source, target = x[rows[first + r]], difference[r]
                for j in range(target.size):
                    target[j] = source[j] - means[k, j]
            np.dot(difference[:count], factors[k], out=whitened[:count])
            for r in range(count):
                row, square = whitened[r], 0.0
                for j in range(row.size):
                    square += row[j] * row[j]
                values[first + r] = constants[k] - 0.5 * square


@compiled
def matrix_statistics(
    x: Array, rows: Array, starts: Array, values: Array, sums: Array, moments: Array, work: Array, product: Array
) -> None:
    """sums (K, 1 + d) += Σ r·[1, x̃] and moments (K, d, d) += Σ r·x̃x̃ᵀ; work (2, c, d), product (d, d)."""
    plain, weighted = work[0], work[1]
    for k in range(sums.shape[0]):
        for first in range(starts[k], starts[k + 1], work.shape[1]):
            count = min(work.shape[1], starts[k + 1] - first)
            for r in range(count):
                resp, source, one, other = values[first + r], x[rows[first + r]], plain[r], weighted[r]
                sums[k, 0] += resp
                target = sums[k, 1:]
                for j in range(source.size):
                    one[j] = source[j]
                    other[j] = resp * source[j]
                    target[j] += other[j]
            np.dot(plain[:count].T, weighted[:count], out=product)
            for i in range(product.shape[0]):
                target, addend = moments[k, i], product[i]
                for j in range(target.size):
                    target[j] += addend[j]


@compiled
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


@compiled
def variance_statistics(x: Array, rows: Array, starts: Array, values: Array, sums: Array, moments: Array) -> None:
    """sums (K, 1 + d) += Σ r·[1, x̃] and moments (K, d) += Σ r·x̃²."""
    for k in range(sums.shape[0]):
        first, second = sums[k, 1:], moments[k]
        for p in range(starts[k], starts[k + 1]):
            row, resp = x[rows[p]], values[p]
            sums[k, 0] += resp
            for j in range(row.size):
                weighted = resp * row[j]
                first[j] += weighted
                second[j] += weighted * row[j]


@compiled
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
