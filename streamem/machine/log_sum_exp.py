"""Log-sum-exp over components, compiled: importing this module imports Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled, exp_nonpositive

Array = NDArray[Any]

TILE = 128
"""Rows at a time, so that what is passed over several times stays in the cache."""


@compiled
def normalize(joint: Array, log_weights: Array, peak: Array, inverse: Array, active: Array, least: float) -> None:
    """Log-densities (K, b) → responsibilities in place; the rest is for `numerics.normalize_log_rows`, each (b,)."""
    for start in range(0, joint.shape[1], TILE):
        stop = min(start + TILE, joint.shape[1])
        highest, mass, count = peak[start:stop], inverse[start:stop], active[start:stop]
        highest[:] = -np.inf
        mass[:] = 0
        count[:] = 0
        for k in range(joint.shape[0]):
            row = joint[k, start:stop]
            for i in range(row.size):
                value = row[i] + log_weights[k]
                row[i] = value
                highest[i] = value if value > highest[i] else highest[i]
        for k in range(joint.shape[0]):
            row = joint[k, start:stop]
            for i in range(row.size):
                value = exp_nonpositive(row[i] - highest[i])
                row[i] = value
                mass[i] += value
        for i in range(mass.size):
            mass[i] = 1 / mass[i]
        for k in range(joint.shape[0]):
            row = joint[k, start:stop]
            for i in range(row.size):
                value = row[i] * mass[i]
                row[i] = value
                count[i] += 1 if value > least else 0
