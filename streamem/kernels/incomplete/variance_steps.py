"""Log-densities, distances, statistics and conditional means of incomplete rows under variances alone; compiled.

Features are independent there: what was observed says nothing of the rest, whose expectation is the mean and whose
expected square holds the variance.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.incomplete.conditioning import split_row
from streamem.kernels.incomplete.groups import GROUP, Variances, Work
from streamem.kernels.incomplete.matrix_steps import add_first, add_means, take_weights
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


@compiled
def incomplete_log_prob_by_variances(x: Array, variances: Variances, work: Work, out: Array) -> None:
    """out (K, b) = log-densities of what was observed of rows x (b, d), in nats; 0 where nothing was."""
    total = work.scalars[0]
    for r in range(x.shape[0]):
        seen = split_row(x[r], variances.center, variances.unscale, work)
        for g in range(variances.means.shape[0]):
            for lane in range(GROUP):
                total[lane] = 0.0
            for c in range(seen):
                i = work.observed[c]
                value, volume = work.row[i], variances.volumes[i]
                mean, factor, log_factor = variances.means[g, i], variances.factors[g, i], variances.log_factors[g, i]
                for lane in range(GROUP):
                    white = (value - mean[lane]) * factor[lane]
                    total[lane] += log_factor[lane] - volume - 0.5 * white * white
            for lane in range(min(GROUP, out.shape[0] - g * GROUP)):
                out[g * GROUP + lane, r] = total[lane]


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
def add_incomplete_by_variances(
    x: Array, scaled: Array, resp: Array, variances: Variances, work: Work, sums: Array, moments: Array
) -> None:
    """Expected statistics of rows x (b, d) about the origins; weights `scaled` and resp (K, b) as in `add_incomplete`.

    Parameters
    ----------
    sums : (groups, 1 + d, GROUP) weights and first moments
    moments : (groups, d, GROUP) second moments
    """
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


@compiled
def fill_incomplete_by_variances(x: Array, resp: Array, variances: Variances, work: Work, out: Array) -> None:
    """out (b, d), in units of x, += resp (K, b) times the means of what rows x lack, where they do."""
    work.z[:] = 0.0
    for r in range(x.shape[0]):
        seen = split_row(x[r], variances.center, variances.unscale, work)
        for g in range(variances.means.shape[0] if seen < x.shape[1] else 0):
            if take_weights(resp, g, r, work):
                add_means(variances.means[g], variances.center, variances.unscale, x.shape[1] - seen, work, out[r])


@compiled_inside
def expect_row(means: Array, seen: int, work: Work) -> None:
    """z = the row less the means, 0 for what it lacks."""
    work.z[:] = 0.0
    for c in range(seen):
        i = work.observed[c]
        value, row, mean = work.row[i], work.z[i], means[i]
        for lane in range(GROUP):
            row[lane] = value - mean[lane]


@compiled_inside
def add_squares(variances: Array, lacking: int, work: Work, moments: Array) -> None:
    """Squares of z by `along`, and variances of what is lacking by the weights that are taken now."""
    for i in range(work.row.size):
        z, weighted, total = work.z[i], work.along[i], moments[i]
        for lane in range(GROUP):
            total[lane] += weighted[lane] * z[lane]
    for c in range(lacking):
        i = work.lacking[c]
        variance, total = variances[i], moments[i]
        for lane in range(GROUP):
            total[lane] += work.resp[lane] * variance[lane]
