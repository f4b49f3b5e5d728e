"""The passes over a chunk, block by block, compiled: nothing goes back to the interpreter between blocks of rows.

With blocks small enough for the cache a block costs tens of microseconds, and threads that met at the interpreter's
lock after every block took longer together than one alone (measured: 2 features, 4 components). What a block means to
an arithmetic is in its `steps`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

import streamem.kernels.features.diagonal_rows_steps
import streamem.kernels.features.feature_steps
import streamem.kernels.features.heavy_tails_steps
import streamem.kernels.features.residual_steps
import streamem.kernels.features.transform_steps
import streamem.kernels.tables.table_steps  # noqa: F401 — each says what its steps are
from streamem.kernels.shares import share_out
from streamem.kernels.steps import FINE, add, add_rows, filled_up, load, next_rows, scores
from streamem.machine.compiled import compiled
from streamem.machine.row_major import scaled

Array = NDArray[Any]


@compiled
def mixture_pass(
    x: Array, weight: Array, log_weights: Array, own: Any, joint: Array, scratch: Array, least: float
) -> tuple[int, float, float]:
    """The E-step of a mixture over x (n, d): position of a value that cannot be or −1, log-likelihood, active pairs.

    The arithmetic's sums get the statistics. weight is (n,), or (0,) for ones; blocks have as many rows as scratch (3,
    rows); joint (K · rows,) is a buffer.
    """
    n, k_all, block = x.shape[0], log_weights.size, scratch.shape[1]
    log_likelihood, pairs = 0.0, 0.0
    start, b = 0, 0
    while start + b < n:
        start += b
        b = next_rows(own, n - start, block)
        w = weight[start : start + b] if weight.size else weight
        bad = load(own, x[start : start + b])
        if bad >= 0:
            return start * x.shape[1] + bad, 0.0, 0.0
        columns = filled_up(own, b)
        posterior = joint[: k_all * columns].reshape(k_all, columns)
        scores(own, posterior)
        gained, pairs = share_out(posterior, log_weights, w, b, scratch, least, pairs)
        log_likelihood += gained
        add(own, posterior, b)
    return FINE, log_likelihood, pairs


@compiled
def densities_pass(x: Array, k: int, own: Any, joint: Array, b: Array, peaks: Array) -> int:
    """b (n, width) = exp(log-density − largest of its row) and peaks (n,), those largest, of x (n, d).

    Returns the position of a value that cannot be, or −1. joint (k · rows of a block,) is a buffer.
    """
    n, block = x.shape[0], joint.size // k
    for start in range(0, n, block):
        rows = min(block, n - start)
        bad = load(own, x[start : start + rows])
        if bad >= 0:
            return start * x.shape[1] + bad
        log_prob = joint[: k * rows].reshape(k, rows)
        scores(own, log_prob)
        scaled(log_prob, b[start : start + rows], peaks[start : start + rows])
    return FINE


@compiled
def statistics_pass(x: Array, weights: Array, own: Any, block: int, loaded: bool) -> int:
    """Add the statistics of x (n, d) with weights (n, at least K) to the arithmetic's sums, in blocks of so many rows.

    Returns the position of a value that cannot be, or −1. What is `loaded` already is not loaded again if it is a
    single block.
    """
    n = x.shape[0]
    for start in range(0, n, block):
        rows = min(block, n - start)
        if not (loaded and n <= block):
            bad = load(own, x[start : start + rows])
            if bad >= 0:
                return start * x.shape[1] + bad
        add_rows(own, weights[start : start + rows])
    return FINE
