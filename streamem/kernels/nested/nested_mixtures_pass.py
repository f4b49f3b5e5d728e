"""Densities of mixtures from those of their parts, and weights divided among parts, row after row, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled

Array = NDArray[Any]

LEAST_PEAK = 1e-12
"""A row whose largest density is smaller than this, of its largest part's, is computed in logarithms: densities below
e^-650 of that part's are 0, and beside a smaller one those would be above 1e-270, what recursions take for nothing."""

LEAST_SUM = 1e-250
"""Parts of a component that is less probable than this are told apart in logarithms."""


@compiled
def joined(parts: Array, weights: Array, b: Array, peaks: Array) -> bool:
    """b (n, width) = Σ_m w_km p_m of parts (n, at least K·M), weights (K, M), divided by the largest of the row.

    The logarithm of that is added to peaks (n,). False where numbers do not suffice.
    """
    components, m = weights.shape
    fine = True
    for i in range(parts.shape[0]):
        row, target, highest = parts[i], b[i], 0.0
        for k in range(components):
            total = 0.0
            for j in range(m):
                total += weights[k, j] * row[k * m + j]
            target[k] = total
            highest = total if total > highest else highest
        fine = fine and LEAST_PEAK <= highest < np.inf  # NaN is not
        factor = 1.0 / highest
        for k in range(components):
            target[k] *= factor
        target[components:] = 0.0
        peaks[i] += np.log(highest)
    return fine


@compiled
def divided(parts: Array, weights: Array, gamma: Array, sums: Array) -> bool:
    """parts (n, width), densities of K·M parts → gamma (n, at least K) divided among them; adds it to sums (K, M).

    False, and then sums are as before, where numbers do not suffice.
    """
    components, m = weights.shape
    mine = np.zeros(weights.shape)
    for i in range(parts.shape[0]):
        row = parts[i]
        for k in range(components):
            total = 0.0
            for j in range(m):
                row[k * m + j] *= weights[k, j]
                total += row[k * m + j]
            share = gamma[i, k]
            if share != 0.0 and not total >= LEAST_SUM:
                return False
            for j in range(m):
                row[k * m + j] = row[k * m + j] * (share / total) if share != 0.0 else 0.0
                mine[k, j] += row[k * m + j]
    sums += mine
    return True
