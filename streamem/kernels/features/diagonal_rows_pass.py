"""The E-step of a mixture with the features 1, x̃ and x̃² over a chunk, compiled, its rows as they lie.

For long rows: of strips, turning rows into their anchored frame costs as much as a product (AMD Zen 3, 128 float32, 4
components: 93 of 199 ns a row; so it is 125).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.diagonal_rows_llvm import (
    MOMENTS_AT_ONCE,
    SCORES_AT_ONCE,
    accumulate_squares,
    multiply_squares,
)
from streamem.kernels.features.mixture_pass import log_likelihood_of
from streamem.machine.compiled import compiled
from streamem.machine.lanes import LANES
from streamem.machine.log_sum_exp import normalize

Array = NDArray[Any]


@compiled
def anchor_rows(x: Array, center: Array, unscale: Array, out: Array) -> None:
    """(x − center) / scale of rows x (b, d) into the first columns of out (at least b, at least d)."""
    d = x.shape[1]
    for i in range(x.shape[0]):
        row, target = x[i], out[i, :d]
        for j in range(d):
            target[j] = (row[j] - center[j]) * unscale[j]


@compiled
def _multiply(coefficients: Array, z: Array, rows: int, out: Array) -> None:
    """out (K, rows) of whole groups of rows, without the constant term."""
    for row in range(0, rows, LANES):
        for k in range(0, out.shape[0], SCORES_AT_ONCE):
            multiply_squares(coefficients, min(SCORES_AT_ONCE, out.shape[0] - k), k, z, row, out)


@compiled
def _accumulate(resp: Array, z: Array, rows: int, width: int, lanes: int, sums: Array) -> None:
    """sums (2K, width) += of so many rows."""
    for k in range(0, resp.shape[0], MOMENTS_AT_ONCE):
        for column in range(0, width, lanes):
            accumulate_squares(resp, min(MOMENTS_AT_ONCE, resp.shape[0] - k), k, z, rows, column, sums)


@compiled
def squares_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    coefficients: Array,
    center: Array,
    unscale: Array,
    z: Array,
    joint: Array,
    scratch: Array,
    totals: Array,
    sums: Array,
    lanes: int,
    least: float,
) -> tuple[float, float]:
    """Log-likelihood and number of active pairs of x (n, d), weighted; adds to sums and, by place in a block, totals.

    log_weights (K,) hold the constant terms, coefficients (2K, width) slopes and curvatures in turn. Blocks have as
    many rows as z (rows, at least width), whose columns beyond d are 0; joint (K · rows,), scratch (3, rows) and totals
    (K, rows) have room for them.
    """
    n, k_all, block, width = x.shape[0], log_weights.size, z.shape[0], coefficients.shape[1]
    log_likelihood, pairs = 0.0, 0.0
    for start in range(0, n, block):
        b = min(block, n - start)
        rows = -(-b // LANES) * LANES
        w = weight[start : start + b] if weight.size else weight
        anchor_rows(x[start : start + b], center, unscale, z)
        posterior = joint[: k_all * rows].reshape(k_all, rows)
        _multiply(coefficients, z, rows, posterior)
        peak, inverse, active = scratch[0, :rows], scratch[1, :rows], scratch[2, :rows]
        normalize(posterior, log_weights, peak, inverse, active, least)
        log_likelihood += log_likelihood_of(peak[:b], inverse[:b], w)
        for i in range(b):
            pairs += active[i] * w[i] if w.size else active[i]
        for k in range(k_all):
            row, total = posterior[k], totals[k]
            if w.size:
                for i in range(b):
                    row[i] *= w[i]
            for i in range(b):
                total[i] += row[i]
        _accumulate(posterior, z, b, width, lanes, sums)
    return log_likelihood, pairs
