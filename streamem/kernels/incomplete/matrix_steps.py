"""Distances, statistics and conditional means of rows that lack values, under covariance matrices; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.incomplete.conditioning import DISTANCE, LOG_ROOT, center_row, condition, split_row
from streamem.kernels.incomplete.group_llvm import add_multiple
from streamem.kernels.incomplete.groups import GROUP, Matrices, Work
from streamem.machine.compiled import compiled, compiled_inside

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
def add_incomplete(
    x: Array, scaled: Array, resp: Array, matrices: Matrices, work: Work, sums: Array, moments: Array
) -> None:
    """Expected statistics of rows x (b, d) about the components' origins: moments weighted by `scaled` (K, b).

    Conditional covariances have the weights resp (K, b): those of Gaussians are `scaled`. A row of precision w is
    Gaussian with covariance C/w, so that moments have r·E[w], and the conditional covariance, w·C/w, has r (Liu 1996,
    §2).

    Parameters
    ----------
    sums : (groups, 1 + d, GROUP) weights and first moments
    moments : (groups or 1, d·(d + 1)/2, GROUP) second moments, packed by rows of the upper triangle
    """
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
def fill_incomplete(x: Array, resp: Array, matrices: Matrices, work: Work, out: Array) -> None:
    """out (b, d), in units of x, += resp (K, b) times conditional means of what rows x lack, where they do."""
    for r in range(x.shape[0]):
        seen = split_row(x[r], matrices.center, matrices.unscale, work)
        for g in range(matrices.means.shape[0] if seen < x.shape[1] else 0):
            if take_weights(resp, g, r, work):
                work.z[:] = 0.0
                if seen > 0:
                    center_row(matrices.means[g], seen, work)
                    condition(matrices, set_of(matrices, g), seen, work, False)
                add_means(matrices.means[g], matrices.center, matrices.unscale, x.shape[1] - seen, work, out[r])


@compiled_inside
def take_weights(resp: Array, g: int, r: int, work: Work) -> bool:
    """The responsibilities of a group's components for a row, zeros beyond the last; whether there are any."""
    anything = False
    for lane in range(GROUP):
        k = g * GROUP + lane
        value = np.float64(resp[k, r]) if k < resp.shape[0] else 0.0
        work.resp[lane] = value
        anything |= value != 0.0
    return anything


@compiled_inside
def add_first(offsets: Array, work: Work, sums: Array) -> None:
    """z becomes the expected row about the origins; adds weights and first moments; along = weighted z."""
    for lane in range(GROUP):
        sums[0, lane] += work.resp[lane]
    for i in range(work.row.size):
        z, weighted, offset, total = work.z[i], work.along[i], offsets[i], sums[1 + i]
        for lane in range(GROUP):
            z[lane] += offset[lane]
            weighted[lane] = work.resp[lane] * z[lane]
            total[lane] += weighted[lane]


@compiled_inside
def add_means(means: Array, center: Array, unscale: Array, lacking: int, work: Work, out: Array) -> None:
    """out (d,) += weighted conditional means."""
    for c in range(lacking):
        i = work.lacking[c]
        for lane in range(GROUP):
            out[i] += work.resp[lane] * (center[i] + (work.z[i, lane] + means[i, lane]) / unscale[i])


@compiled_inside
def add_second(work: Work, lacking: int, moments: Array) -> None:
    """Second moments of z by `along`, and conditional covariances by the weights that are taken now."""
    d, at = work.row.size, 0
    for i in range(d):
        add_multiple(moments, at, work.along, i, work.z, i, d - i)
        at += d - i
    for a in range(lacking):
        j = work.lacking[a]
        for b in range(a, lacking):
            i = work.lacking[b]  # not above j: they go down
            add_multiple(moments, i * d - (i * (i - 1)) // 2 + j - i, work.resp, 0, work.covariance[a, b], 0, 1)


@compiled_inside
def set_of(matrices: Matrices, g: int) -> int:
    """Which matrices serve a group."""
    return min(g, matrices.factors.shape[0] - 1)


@compiled_inside
def observed_volume(volumes: Array, seen: int, work: Work) -> float:
    total = 0.0
    for c in range(seen):
        total += volumes[work.observed[c]]
    return total
