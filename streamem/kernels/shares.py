"""From log-densities of a block of rows to the shares that components have of it, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled_inside
from streamem.machine.log_sum_exp import normalize

Array = NDArray[Any]

FACTORS = 16
"""Sums of K exponentials at most 1 whose product still is a float64: one logarithm serves them all."""


@compiled_inside
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


@compiled_inside
def count_pairs(active: Array, weight: Array, pairs: float) -> float:
    """pairs + Σ w·active (b,); weight is (b,) or (0,) for ones."""
    for i in range(active.size):
        pairs += active[i] * weight[i] if weight.size else active[i]
    return pairs


@compiled_inside
def share_out(
    posterior: Array, log_weights: Array, weight: Array, b: int, scratch: Array, least: float, pairs: float
) -> tuple[float, float]:
    """Log-densities (K, at least b) → responsibilities times weights in place.

    Returns the log-likelihood of the b rows, and pairs + the number of their active pairs, both weighted. weight is
    (b,) or (0,) for ones; scratch (3, at least as many as columns) is a buffer.
    """
    columns = posterior.shape[1]
    peak, inverse, active = scratch[0, :columns], scratch[1, :columns], scratch[2, :columns]
    normalize(posterior, log_weights, peak, inverse, active, least)
    log_likelihood = log_likelihood_of(peak[:b], inverse[:b], weight)
    pairs = count_pairs(active[:b], weight, pairs)
    if weight.size:
        for k in range(posterior.shape[0]):
            row = posterior[k]
            for i in range(b):
                row[i] *= weight[i]
    return log_likelihood, pairs
