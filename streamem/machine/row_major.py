"""From log-densities with rows last to densities row after row, and back, for recursions along rows. Imports Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled, exp_nonpositive
from streamem.machine.lanes import LANES
from streamem.machine.vectors import turn

Array = NDArray[Any]

TILE = 64


@compiled
def scaled(log_prob: Array, b: Array, peaks: Array) -> None:
    """Log-densities (K, rows) → b (rows, width) = exp(· − their largest), and the largest (rows,)."""
    k, rows = log_prob.shape
    width = b.shape[1]
    values = np.zeros((width, TILE))
    for start in range(0, rows, TILE):
        count = min(TILE, rows - start)
        highest = peaks[start : start + count]
        highest[:] = -np.inf
        for i in range(k):
            row = log_prob[i, start : start + count]
            for r in range(row.size):
                highest[r] = row[r] if row[r] > highest[r] else highest[r]
        for i in range(k):
            row, value = log_prob[i, start : start + count], values[i]
            for r in range(row.size):
                value[r] = exp_nonpositive(row[r] - highest[r])
        whole = count - count % LANES
        for r in range(0, whole, LANES):
            for i in range(0, width, LANES):
                turn(b, (start + r) * width + i, width, values, i * TILE + r, TILE)
        for r in range(whole, count):
            for i in range(width):
                b[start + r, i] = values[i, r]


@compiled
def columns(values: Array, out: Array) -> None:
    """(rows, width) → (K, rows)."""
    k, rows = out.shape
    width = values.shape[1]
    turned = np.empty((width, TILE))
    for start in range(0, rows, TILE):
        count = min(TILE, rows - start)
        whole = count - count % LANES
        for r in range(0, whole, LANES):
            for i in range(0, width, LANES):
                turn(turned, i * TILE + r, TILE, values, (start + r) * width + i, width)
        for r in range(whole, count):
            for i in range(k):
                turned[i, r] = values[start + r, i]
        for i in range(k):
            row, target = turned[i], out[i, start : start + count]
            for r in range(target.size):
                target[r] = row[r]
