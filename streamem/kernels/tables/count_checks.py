"""Checks of discrete values, and the base measure of counts, compiled: one look at every value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled

Array = NDArray[Any]


@compiled
def log_factorials(x: Array, table: Array, out: Array) -> int:
    """out (n,) = −Σ_j log x_ij!; the position of the first value of x that is no count, or −1. NaN is let through."""
    for i in range(x.shape[0]):
        total = 0.0
        row = x[i]
        for j in range(row.size):
            value = np.float64(row[j])
            if value < 0 or value - np.floor(value) > 0:
                return i * row.size + j
            total += table[int(value)] if value < table.size else math.lgamma(value + 1.0)
        out[i] = -total
    return -1


@compiled
def first_beyond(x: Array, sizes: Array) -> int:
    """The position of the first value that is no integer of 0 … sizes[column] − 1, or −1. NaN is let through."""
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            value = row[j]
            if value < 0 or value >= sizes[j] or value - np.floor(value) > 0:
                return i * row.size + j
    return -1
