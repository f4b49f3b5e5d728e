"""Squared distances of rows that lack values, and statistics with two weights, as heavy tails need them; compiled.

A row of precision w is Gaussian with covariance C/w given what was observed, so moments about the conditional mean have
the weight r·E[w], and the conditional covariance, w·C/w, has r (Liu 1996, §2).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.incomplete.conditioning import DISTANCE, LOG_ROOT, center_row, condition, split_row
from streamem.kernels.incomplete.groups import GROUP, Matrices, Variances, Work
from streamem.kernels.incomplete.matrix_steps import add_first, add_second, observed_volume, set_of, take_weights
from streamem.kernels.incomplete.variance_steps import add_squares, expect_row
from streamem.machine.compiled import compiled

Array = NDArray[Any]


@compiled
def incomplete_distances(x: Array, matrices: Matrices, work: Work, constants: Array, out: Array) -> None:
    """out (K, b) = −½ squared distances of what was observed of rows x (b, d); constants (K, b) of their Gaussians.

    Both are 0 where nothing was observed.
    """
    for r in range(x.shape[0]):
        seen = split_row(x[r], matrices.center, matrices.unscale, work)
        if seen == 0:
            out[:, r] = 0.0
            constants[:, r] = 0.0
            continue
        volume = observed_volume(matrices.volumes, seen, work)
        for g in range(matrices.means.shape[0]):
            center_row(matrices.means[g], seen, work)
            condition(matrices, set_of(matrices, g), seen, work, False)
            of_all = 1.0 if 2 * seen >= x.shape[1] else 0.0
            for lane in range(min(GROUP, out.shape[0] - g * GROUP)):
                root = of_all * matrices.log_det[g, lane] + work.scalars[LOG_ROOT, lane]
                out[g * GROUP + lane, r] = -0.5 * work.scalars[DISTANCE, lane]
                constants[g * GROUP + lane, r] = root - volume


@compiled
def add_incomplete_scaled(
    x: Array, scaled: Array, resp: Array, matrices: Matrices, work: Work, sums: Array, moments: Array
) -> None:
    """Expected statistics as `add_incomplete` has them, by `scaled` (K, b); conditional covariances by `resp`."""
    for g in range(matrices.means.shape[0]):
        f = set_of(matrices, g)
        for r in range(x.shape[0]):
            if not take_weights(scaled, g, r, work):
                continue
            seen = split_row(x[r], matrices.center, matrices.unscale, work)
            if seen == 0:
                continue
            center_row(matrices.means[g], seen, work)
            condition(matrices, f, seen, work, True)
            add_first(matrices.offsets[g], work, sums[g])
            take_weights(resp, g, r, work)
            add_second(work, x.shape[1] - seen, moments[min(g, moments.shape[0] - 1)])


@compiled
def incomplete_distances_by_variances(x: Array, variances: Variances, work: Work, constants: Array, out: Array) -> None:
    """out (K, b) and constants (K, b) as of `incomplete_distances`, under variances alone."""
    total, constant = work.scalars[0], work.scalars[1]
    for r in range(x.shape[0]):
        seen = split_row(x[r], variances.center, variances.unscale, work)
        for g in range(variances.means.shape[0]):
            for lane in range(GROUP):
                total[lane] = 0.0
                constant[lane] = 0.0
            for c in range(seen):
                i = work.observed[c]
                value, volume = work.row[i], variances.volumes[i]
                mean, factor, log_factor = variances.means[g, i], variances.factors[g, i], variances.log_factors[g, i]
                for lane in range(GROUP):
                    white = (value - mean[lane]) * factor[lane]
                    total[lane] -= 0.5 * white * white
                    constant[lane] += log_factor[lane] - volume
            for lane in range(min(GROUP, out.shape[0] - g * GROUP)):
                out[g * GROUP + lane, r] = total[lane]
                constants[g * GROUP + lane, r] = constant[lane]


@compiled
def add_incomplete_scaled_by_variances(
    x: Array, scaled: Array, resp: Array, variances: Variances, work: Work, sums: Array, moments: Array
) -> None:
    """Expected statistics of weights `scaled` (K, b), variances of what is lacking by `resp`; under variances alone."""
    for r in range(x.shape[0]):
        seen = split_row(x[r], variances.center, variances.unscale, work)
        if seen == 0:
            continue
        for g in range(variances.means.shape[0]):
            if take_weights(scaled, g, r, work):
                expect_row(variances.means[g], seen, work)
                add_first(variances.offsets[g], work, sums[g])
                take_weights(resp, g, r, work)
                add_squares(variances.variances[g], x.shape[1] - seen, work, moments[g])
