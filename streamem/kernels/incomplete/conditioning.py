"""What Gaussians say of a row of which values were not observed: its density, and what the rest may be; compiled.

With z the row less the mean and P = U·Uᵀ the precision, the values z_m that are lacking have the conditional mean that
minimizes |Uᵀz|², a problem of least squares in the rows of U that belong to them. A QR decomposition solves it: its R
has RᵀR = P_mm, the inverse of the conditional covariance, and the residual is the distance of the observed values in
their marginal (Dempster, Laird & Rubin 1977, §4.1.1; Little & Rubin 2002, §11.2). Where less is observed than lacking,
the covariance V·Vᵀ = P⁻¹ is conditioned on the observed rows of V in the same way. No matrix is squared: errors are
eps·√condition, as those of differences are. R comes by Gram & Schmidt with the right-hand side as one more column,
which is as stable as reflections (Björck 1967).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.incomplete.group_llvm import (
    AT_ONCE,
    add_multiple,
    dot,
    multiply,
    root_and_inverse,
    sum_chosen,
    take_multiple,
)
from streamem.kernels.incomplete.groups import GROUP, SPARE, Matrices, Work
from streamem.machine.compiled import compiled_inside

Array = NDArray[Any]

DISTANCE, LOG_ROOT, SCRATCH, SUM = 0, 1, 2, 3

FEW = 1e100
"""A product of diagonals of R beyond this, or below its inverse, is made a logarithm before the next factor."""


@compiled_inside
def split_row(x: Array, center: Array, unscale: Array, work: Work) -> int:
    """Anchored values of a row x (d,), which were observed, and which it lacks, from the last on; how many were."""
    d, seen = x.size, 0
    for j in range(d):
        value = np.float64(x[j])
        if value == value:
            work.row[j] = (value - center[j]) * unscale[j]
            work.observed[seen] = j
            seen += 1
    count = 0
    for i in range(d):
        j = d - 1 - i
        if x[j] != x[j]:
            work.lacking[count] = j
            count += 1
    return seen


@compiled_inside
def center_row(means: Array, seen: int, work: Work) -> None:
    """z = the observed values less means (d, GROUP)."""
    for c in range(seen):
        i = work.observed[c]
        value, row, mean = work.row[i], work.z[i], means[i]
        for lane in range(GROUP):
            row[lane] = value - mean[lane]


@compiled_inside
def condition(matrices: Matrices, f: int, seen: int, work: Work, wanted: bool) -> None:
    """Fill in z; distance and log|R|, with a sign, into scalars; where it is wanted, the conditional covariance."""
    d = work.row.size
    if 2 * seen >= d:
        _by_lacking(matrices.factors, f, seen, work, wanted)
    else:
        _by_observed(matrices, f, seen, work, wanted)


@compiled_inside
def _by_lacking(factors: Array, f: int, seen: int, work: Work, wanted: bool) -> None:
    d = work.row.size
    lacking, stride, matrix = d - seen, d + SPARE, f * d * d
    _whiten(factors, matrix, seen, work)
    for c in range(lacking):
        i = work.lacking[c]
        for j in range(i, d):
            for lane in range(GROUP):
                work.basis[c, j, lane] = factors[f, i, j, lane]
    for c in range(lacking):
        i = work.lacking[c]
        at, count = c * stride + i, d - i
        _normalize(work, c, at, count)
        for e in range(c + 1, lacking):
            dot(work.triangle, c * d + e, work.basis, at, work.basis, e * stride + i, count)
            take_multiple(work.basis, e * stride + i, work.triangle, c * d + e, work.basis, at, count)
        dot(work.along, c, work.basis, at, work.white, i, count)
        take_multiple(work.white, i, work.along, c, work.basis, at, count)
    dot(work.scalars, DISTANCE, work.white, 0, work.white, 0, d)
    _log_root(work, lacking)
    _fill_by_lacking(work, lacking)
    if wanted:
        _invert(work, lacking)


@compiled_inside
def _whiten(factors: Array, matrix: int, seen: int, work: Work) -> None:
    """white = Uᵀz over the observed features; of row i of U columns from i on are not 0."""
    reached = 0
    for j in range(0, work.row.size, AT_ONCE):
        while reached < seen and work.observed[reached] < j + AT_ONCE:
            reached += 1
        sum_chosen(work.white, j, factors, matrix + j, work.z, work.observed, reached)


@compiled_inside
def _normalize(work: Work, c: int, at: int, count: int) -> None:
    """Vector c of the basis, from `at` on, by its length R_cc."""
    d = work.row.size
    dot(work.scalars, SCRATCH, work.basis, at, work.basis, at, count)
    root_and_inverse(work.triangle, c * d + c, work.sizes, c, work.scalars, SCRATCH)
    multiply(work.basis, at, work.sizes, c, work.basis, at, count)


@compiled_inside
def _log_root(work: Work, count: int) -> None:
    """−log|R| of so many columns: the logarithms of products, few enough that none overflows."""
    total, product = work.scalars[LOG_ROOT], work.scalars[SCRATCH]
    for lane in range(GROUP):
        total[lane] = 0.0
        product[lane] = 1.0
    for c in range(count):
        sizes, extreme = work.sizes[c], False
        for lane in range(GROUP):
            product[lane] *= sizes[lane]
            extreme |= not 1.0 / FEW < product[lane] < FEW
        if extreme:
            for lane in range(GROUP):
                total[lane] += np.log(product[lane])
                product[lane] = 1.0
    for lane in range(GROUP):
        total[lane] += np.log(product[lane])


@compiled_inside
def _fill_by_lacking(work: Work, lacking: int) -> None:
    """z of what is lacking: −R⁻¹ times the coordinates of the residual."""
    d = work.row.size
    total = work.scalars[SUM]
    for back in range(lacking):
        c = lacking - 1 - back
        for lane in range(GROUP):
            total[lane] = work.along[c, lane]
        for e in range(c + 1, lacking):
            add_multiple(work.scalars, SUM, work.triangle, c * d + e, work.z, work.lacking[e], 1)
        target, size = work.z[work.lacking[c]], work.sizes[c]
        for lane in range(GROUP):
            target[lane] = -total[lane] * size[lane]


@compiled_inside
def _invert(work: Work, lacking: int) -> None:
    """covariance (lacking, lacking) = R⁻¹R⁻ᵀ, its upper triangle."""
    d, total = work.row.size, work.scalars[SUM]
    for e in range(lacking):
        work.inverse[e, e] = work.sizes[e]
        for back in range(e):
            c = e - 1 - back
            total[:] = 0.0
            for b in range(c + 1, e + 1):
                add_multiple(work.scalars, SUM, work.triangle, c * d + b, work.inverse, b * d + e, 1)
            target, size = work.inverse[c, e], work.sizes[c]
            for lane in range(GROUP):
                target[lane] = -total[lane] * size[lane]
    for a in range(lacking):
        for b in range(a, lacking):
            dot(work.covariance, a * d + b, work.inverse, a * d + b, work.inverse, b * d + b, lacking - b)


@compiled_inside
def _by_observed(matrices: Matrices, f: int, seen: int, work: Work, wanted: bool) -> None:
    d, roots = work.row.size, matrices.roots
    stride = d + SPARE
    for c in range(seen):
        i = work.observed[c]
        for j in range(i + 1):
            for lane in range(GROUP):
                work.basis[c, j, lane] = roots[f, i, j, lane]
    work.white[:] = 0.0
    for c in range(seen):
        at, count = c * stride, work.observed[c] + 1
        _normalize(work, c, at, count)
        for e in range(c + 1, seen):
            dot(work.triangle, c * d + e, work.basis, at, work.basis, e * stride, count)
            take_multiple(work.basis, e * stride, work.triangle, c * d + e, work.basis, at, count)
        work.along[c] = work.z[work.observed[c]]
        for b in range(c):
            take_multiple(work.along, c, work.triangle, b * d + c, work.along, b, 1)
        multiply(work.along, c, work.sizes, c, work.along, c, 1)
        add_multiple(work.white, 0, work.along, c, work.basis, at, count)
    dot(work.scalars, DISTANCE, work.along, 0, work.along, 0, seen)
    _log_root(work, seen)
    for a in range(d - seen):
        i = work.lacking[a]
        dot(work.z, i, roots, f * d * d + i * d, work.white, 0, i + 1)
    if wanted:
        _left_by_observed(matrices, f, seen, work)


@compiled_inside
def _left_by_observed(matrices: Matrices, f: int, seen: int, work: Work) -> None:
    """covariance (lacking, lacking) = Σ_mm less what the observed features explain, its upper triangle."""
    d = work.row.size
    matrix, stride, lacking = f * d * d, d + SPARE, d - seen
    for a in range(lacking):
        i = work.lacking[a]
        for c in range(seen):
            count = min(i, work.observed[c]) + 1
            dot(work.inverse, a * d + c, matrices.roots, matrix + i * d, work.basis, c * stride, count)
    for a in range(lacking):
        for b in range(a, lacking):
            dot(work.scalars, SCRATCH, work.inverse, a * d, work.inverse, b * d, seen)
            target, whole = work.covariance[a, b], matrices.covariances[f, work.lacking[a], work.lacking[b]]
            for lane in range(GROUP):
                target[lane] = whole[lane] - work.scalars[SCRATCH, lane]
