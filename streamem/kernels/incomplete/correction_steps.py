"""What rows that were filled with any values need besides, so that nothing depends on the filling; compiled.

With P the precision, x̃ a filled row and a = (P(x̃ − m))_m, the density of what was observed is that of the filled row
times exp(½ aᵀP_mm⁻¹a)·√((2π)^|m| / |P_mm|), a Gaussian integral; the conditional mean is the filling less P_mm⁻¹a,
and the conditional covariance P_mm⁻¹. So a row costs what a complete one does, and a Cholesky decomposition of as many
rows as it lacks values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.incomplete.group_llvm import (
    add_multiples,
    dot,
    root_and_inverse,
    sum_multiples,
)
from streamem.kernels.incomplete.groups import GROUP, Corner, Precisions
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]

SQUARES, PIVOT, SUM = 0, 1, 2

FACTORS = 8
"""Sizes that are multiplied before their logarithm is taken."""


@compiled
def correct_log_prob(x: Array, precisions: Precisions, corner: Corner, out: Array) -> None:
    """out (K, b), log-densities of rows x (b, d) filled, becomes those of what was observed, in nats."""
    row, lacking, triangle, along, sizes, scalars = (
        corner.row,
        corner.lacking,
        corner.triangle,
        corner.along,
        corner.sizes,
        corner.scalars,
    )
    matrices, slopes = precisions.precisions, precisions.slopes
    for r in range(x.shape[0]):
        count = _fill(x[r], precisions.center, precisions.unscale, precisions.filling, row, lacking)
        if count == 0:
            continue
        if count == x.shape[1]:
            out[:, r] = 0.0
            continue
        volume = 0.0
        for c in range(count):
            volume += precisions.volumes[lacking[c]]
        for g in range(slopes.shape[0]):
            f = min(g, matrices.shape[0] - 1)
            _factor(matrices, f, slopes[g], row, lacking, count, triangle, along, sizes, scalars)
            dot(scalars, SQUARES, along, 0, along, 0, count)
            for lane in range(min(GROUP, out.shape[0] - g * GROUP)):
                total, product = volume + 0.5 * scalars[SQUARES, lane], 1.0
                for c in range(count):
                    product *= sizes[c, lane]
                    if c % FACTORS == FACTORS - 1:
                        total += np.log(product)
                        product = 1.0
                out[g * GROUP + lane, r] += total + np.log(product)


@compiled
def add_corrections(
    x: Array, resp: Array, precisions: Precisions, corner: Corner, least: float, first: Array, crossed: Array
) -> None:
    """What expected statistics of rows x (b, d), weighted by resp (K, b), have beyond those of filled rows.

    Parameters
    ----------
    least : the share of a row's weight up to which components do not matter to it
    first : (groups, d, GROUP) first moments
    crossed : (groups or 1, d, d, GROUP) half of second moments: they are this and its transpose
    """
    d, row, lacking, along, sizes = x.shape[1], corner.row, corner.lacking, corner.along, corner.sizes
    triangle, inverse, scalars, weights = corner.triangle, corner.inverse, corner.scalars, corner.resp
    matrices, slopes = precisions.precisions, precisions.slopes
    for r in range(x.shape[0]):
        count = _fill(x[r], precisions.center, precisions.unscale, precisions.filling, row, lacking)
        if count == 0 or count == d:
            continue
        total = 0.0
        for k in range(resp.shape[0]):
            total += resp[k, r]
        for g in range(slopes.shape[0]):
            if not _take(resp, g, r, least * total, weights):
                continue
            f = min(g, matrices.shape[0] - 1)
            _factor(matrices, f, slopes[g], row, lacking, count, triangle, along, sizes, scalars)
            _solve(count, triangle, inverse, along, sizes, scalars)
            own = min(g, crossed.shape[0] - 1)
            for c in range(count):
                i = lacking[c]
                moved, weighted, sums = along[c], sizes[c], first[g, i]  # the sizes have served
                for lane in range(GROUP):
                    weighted[lane] = weights[lane] * moved[lane]
                    sums[lane] += weighted[lane]
                add_multiples(crossed, (own * d + i) * d, sizes, c, row, d)
            for c in range(count):
                for e in range(c, count):
                    dot(scalars, SUM, inverse, c * d + e, inverse, e * d + e, count - e)
                    half, left, weighted, moved = 0.5 if c == e else 1.0, scalars[SUM], sizes[c], along[e]
                    target = crossed[own, lacking[c], lacking[e]]
                    for lane in range(GROUP):
                        target[lane] += half * (weights[lane] * left[lane] + weighted[lane] * moved[lane])


@compiled_inside
def _fill(x: Array, center: Array, unscale: Array, filling: Array, row: Array, lacking: Array) -> int:
    """The anchored row (d,) of x, filled, and which features it lacks; how many these are."""
    count = 0
    for j in range(x.size):
        value = np.float64(x[j])
        if value == value:
            row[j] = (value - center[j]) * unscale[j]
        else:
            row[j] = filling[j]
            lacking[count] = j
            count += 1
    return count


@compiled_inside
def _take(resp: Array, g: int, r: int, least: float, weights: Array) -> bool:
    """The responsibilities of a group's components for a row, zeros beyond the last; whether any matters."""
    anything = False
    for lane in range(GROUP):
        k = g * GROUP + lane
        weights[lane] = resp[k, r] if k < resp.shape[0] else 0.0
        anything |= weights[lane] > least
    return anything


@compiled_inside
def _factor(
    matrices: Array,
    f: int,
    slopes: Array,
    row: Array,
    lacking: Array,
    count: int,
    triangle: Array,
    along: Array,
    sizes: Array,
    scalars: Array,
) -> None:
    """L, the reciprocals of its diagonal, and along = L⁻¹·(P(x̃ − m))_m."""
    d = row.size
    for c in range(count):
        i = lacking[c]
        begin = (f * d + i) * d
        sum_multiples(along, c, matrices, begin, row, d)
        for e in range(c):
            dot(scalars, SUM, triangle, c * d, triangle, e * d, e)
            own, target, before, size = matrices[f, i, lacking[e]], triangle[c, e], scalars[SUM], sizes[e]
            for lane in range(GROUP):
                target[lane] = (own[lane] - before[lane]) * size[lane]
        dot(scalars, SUM, triangle, c * d, triangle, c * d, c)
        own, pivot, before = matrices[f, i, i], scalars[PIVOT], scalars[SUM]
        for lane in range(GROUP):
            pivot[lane] = own[lane] - before[lane]
        root_and_inverse(triangle, c * d + c, sizes, c, scalars, PIVOT)
        dot(scalars, SUM, triangle, c * d, along, 0, c)
        target, slope, size = along[c], slopes[i], sizes[c]
        for lane in range(GROUP):
            target[lane] = (target[lane] - slope[lane] - before[lane]) * size[lane]


@compiled_inside
def _solve(count: int, triangle: Array, inverse: Array, along: Array, sizes: Array, scalars: Array) -> None:
    """along becomes −P_mm⁻¹·a, by how much the conditional mean is off the filling; inverse (count, count) = L⁻ᵀ."""
    d = triangle.shape[0]
    for c in range(count):
        inverse[c, c] = sizes[c]
        for e in range(c + 1, count):
            dot(scalars, SUM, triangle, e * d + c, inverse, c * d + c, e - c)
            target, total, size = inverse[c, e], scalars[SUM], sizes[e]
            for lane in range(GROUP):
                target[lane] = -total[lane] * size[lane]
    for c in range(count):  # L⁻ᵀ times along, from the first on: row c needs what comes after it only
        dot(scalars, SUM, inverse, c * d + c, along, c, count - c)
        target, total = along[c], scalars[SUM]
        for lane in range(GROUP):
            target[lane] = -total[lane]
