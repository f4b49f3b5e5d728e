"""What every pass over pairs of row and component does with a block, for matrices and for variances; compiled."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.pairs.active_pairs import (
    matrix_log_prob,
    matrix_statistics,
    normalize_pairs,
    variance_log_prob,
    variance_statistics,
)
from streamem.kernels.pairs.pair_buffers import Gaussians, PairBuffers
from streamem.kernels.shares import count_pairs, log_likelihood_of
from streamem.machine.compiled import compiled_inside

Array = NDArray[Any]


@compiled_inside
def pairs_log_prob(
    x: Array,
    gaussians: Gaussians,
    factors: Array,
    rows: Array,
    begins: Array,
    ends: Array,
    values: Array,
    buffers: PairBuffers,
) -> None:
    """values[p] = log-densities of pairs begins[k] ≤ p < ends[k] of anchored rows x.

    factors : those of the Gaussians, an argument of its own because Numba compiles one branch for its number of axes
    """
    if factors.ndim == 3:
        matrix_log_prob(x, gaussians, rows, begins, ends, values, buffers)
    else:
        variance_log_prob(x, gaussians, rows, begins, ends, values)


@compiled_inside
def pairs_statistics(
    x: Array, values: Array, origins: Array, sums: Array, moments: Array, buffers: PairBuffers
) -> None:
    """Statistics over the pairs in `buffers` of anchored rows x, about the components' origins."""
    if moments.ndim == 3:
        matrix_statistics(x, buffers.rows, buffers.starts, values, origins, sums, moments, buffers)
    else:
        variance_statistics(x, buffers.rows, buffers.starts, values, origins, sums, moments)


@compiled_inside
def weigh_pairs(values: Array, weight: Array, buffers: PairBuffers, occupied: Array) -> None:
    """values (pairs,) times the weights of their rows, (b,) or (0,) for ones, and their sums by component."""
    for k in range(occupied.size):
        for p in range(buffers.starts[k], buffers.starts[k + 1]):
            if weight.size:
                values[p] *= weight[buffers.rows[p]]
            occupied[k] += values[p]


@compiled_inside
def share_pairs(
    b: int,
    weight: Array,
    log_weights: Array,
    gaussians: Gaussians,
    buffers: PairBuffers,
    sums: Array,
    moments: Array,
    occupied: Array,
    least: float,
) -> tuple[float, float]:
    """Log-likelihood and number of active pairs of the b rows in `buffers`, from the log-densities of their pairs.

    Adds to sums, moments and occupied. weight is (b,) or (0,) for ones.
    """
    rows, starts = buffers.rows, buffers.starts
    values, known = buffers.values[: starts[occupied.size]], buffers.scratch[:, :b]
    normalize_pairs(rows, starts, values, log_weights, known[0], known[1], known[2], least)
    pairs = count_pairs(known[2], weight, 0.0)
    weigh_pairs(values, weight, buffers, occupied)
    log_likelihood = log_likelihood_of(known[0], known[1], weight)
    pairs_statistics(buffers.x, values, gaussians.origins, sums, moments, buffers)
    return log_likelihood, pairs
