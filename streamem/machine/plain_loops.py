"""The loops of this room in NumPy, for small work: nothing is compiled. Does not import Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


quietly = np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")


@quietly
def normalize(joint: Array, log_weights: Array, peak: Array, inverse: Array, active: Array, least: float) -> None:
    """Log-densities (K, b) → responsibilities in place; the rest is for `numerics.normalize_log_rows`, each (b,)."""
    peak[:], inverse[:] = responsibilities(joint, log_weights)
    np.sum(joint > least, axis=0, out=active)


def responsibilities(joint: Array, log_weights: Array) -> tuple[Array, Array]:
    """Log-densities (K, b) → responsibilities in place; the largest with log-weights, and the inverse mass, (b,)."""
    joint += log_weights[:, None]
    peak = np.maximum.reduce(joint, axis=0)
    joint -= peak
    np.exp(joint, out=joint)
    inverse = 1 / np.add.reduce(joint, axis=0)
    joint *= inverse
    return peak, inverse


@quietly
def scaled(log_prob: Array, b: Array, peaks: Array) -> None:
    """Log-densities (K, rows) → b (rows, width) = exp(· − their largest), and the largest (rows,)."""
    scaled_by_row(log_prob, b, peaks)


def scaled_by_row(log_prob: Array, b: Array, peaks: Array) -> None:
    """What `scaled` does, for callers that have silenced NumPy already."""
    k = len(log_prob)
    np.maximum.reduce(log_prob, axis=0, out=peaks)
    np.exp((log_prob - peaks).T, out=b[:, :k])
    b[:, k:] = 0.0


def columns(values: Array, out: Array) -> None:
    """(rows, width) → (K, rows)."""
    out[...] = values[:, : len(out)].T
