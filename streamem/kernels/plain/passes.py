"""The passes over a chunk in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamem.kernels.plain.features
import streamem.kernels.plain.residuals
import streamem.kernels.plain.tables
import streamem.kernels.plain.tails
import streamem.kernels.plain.transforms  # noqa: F401 — each says what its steps are
from streamem.kernels.plain.features import quietly
from streamem.kernels.plain.steps import FINE, steps_of
from streamem.machine.plain_loops import responsibilities, scaled_by_row

Array = NDArray[Any]

BLOCK_VALUES = 2**16
"""Of rows that are worked on together, whose features may be a hundred times as many."""


@quietly
def mixture_pass(
    x: Array, weight: Array, log_weights: Array, own: Any, joint: Array, scratch: Array, least: float
) -> tuple[int, float, float]:
    """The E-step of a mixture over x (n, d): position of a value that cannot be or −1, log-likelihood, active pairs.

    The arithmetic's sums get the statistics. weight is (n,), or (0,) for ones.
    """
    steps, block = steps_of(own), _rows(x)
    log_likelihood, pairs = 0.0, 0.0
    for start in range(0, len(x), block):
        bad, rows = steps.load(own, x[start : start + block])
        if bad >= 0:
            return start * x.shape[1] + bad, 0.0, 0.0
        resp = steps.scores(own, rows)[: log_weights.size]
        w = weight[start : start + block]
        gained, active = share_out(resp, log_weights, w, least)
        log_likelihood, pairs = log_likelihood + gained, pairs + active
        steps.add(own, rows, resp)
    return FINE, log_likelihood, pairs


def share_out(resp: Array, log_weights: Array, weight: Array, least: float) -> tuple[float, float]:
    """Log-densities (K, b) → responsibilities times weights in place; the log-likelihood, and the active pairs."""
    peak, inverse = responsibilities(resp, log_weights)
    density, active = peak - np.log(inverse, dtype=np.float64), resp > least
    if not weight.size:
        return float(density.sum()), float(np.count_nonzero(active))
    pairs = float(weight @ np.count_nonzero(active, axis=0))
    resp *= weight
    return float(weight @ density), pairs


@quietly
def densities_pass(x: Array, k: int, own: Any, joint: Array, b: Array, peaks: Array) -> int:
    """b (n, width) = exp(log-density − largest of its row) and peaks (n,), those largest, of x (n, d).

    Returns the position of a value that cannot be, or −1.
    """
    steps, block = steps_of(own), _rows(x)
    for start in range(0, len(x), block):
        bad, rows = steps.load(own, x[start : start + block])
        if bad >= 0:
            return start * x.shape[1] + bad
        scaled_by_row(steps.scores(own, rows)[:k], b[start : start + block], peaks[start : start + block])
    return FINE


@quietly
def statistics_pass(x: Array, weights: Array, own: Any, block: int, loaded: bool) -> int:
    """Add the statistics of x (n, d) with weights (n, at least K) to the arithmetic's sums.

    Returns the position of a value that cannot be, or −1.
    """
    steps, k, block = steps_of(own), _components(own), _rows(x)
    for start in range(0, len(x), block):
        bad, rows = steps.load(own, x[start : start + block])
        if bad >= 0:
            return start * x.shape[1] + bad
        steps.add(own, rows, np.ascontiguousarray(weights[start : start + block, :k].T))
    return FINE


def _rows(x: Array) -> int:
    """Rows that are worked on together."""
    return max(16, BLOCK_VALUES // x.shape[1])


def _components(own: Any) -> int:
    """K."""
    return int(getattr(own, "linear", own).sums.shape[-1])
