"""How components lie beside each other where rows lack values: `GROUP` of them in the lanes of a vector."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GROUP = 8
"""Components whose numbers lie side by side, whatever the processor: results do not depend on it."""

SPARE = 4
"""Vectors beyond the last of a matrix that are read and not used."""


def groups_for(k: int) -> int:
    """Groups of k components."""
    return -(-k // GROUP)


def in_groups(values: Array) -> Array:
    """Numbers (K, …) as (groups, …, GROUP); components that there are not have zeros."""
    k = len(values)
    padded = np.zeros((groups_for(k) * GROUP, *values.shape[1:]))
    padded[:k] = values
    cut = padded.reshape(-1, GROUP, *values.shape[1:])
    return np.ascontiguousarray(np.moveaxis(cut, 1, -1))


def matrices_in_groups(values: Array) -> Array:
    """Matrices (K, d, d) as (groups, d, d, GROUP), with `SPARE` vectors behind them in memory.

    Components that there are not have identity matrices.
    """
    k, d, _ = values.shape
    lanes = groups_for(k) * GROUP
    buffer = np.zeros(lanes * d * d + SPARE * GROUP)
    grouped = buffer[: lanes * d * d].reshape(-1, d, d, GROUP)
    grouped[...] = np.eye(d)[:, :, None]
    for component, matrix in enumerate(values):
        grouped[component // GROUP, :, :, component % GROUP] = matrix
    return grouped


def from_groups(values: Array, k: int) -> Array:
    """Numbers (groups, …, GROUP) as (K, …)."""
    turned = np.moveaxis(values, -1, 1)
    return np.ascontiguousarray(turned.reshape(-1, *turned.shape[2:])[:k])


class Matrices(NamedTuple):
    """Gaussians with covariance matrices, as compiled code reads them; groups may share one set of matrices.

    Attributes
    ----------
    center, unscale : (d,) x̃ = (x − center) · unscale
    volumes : (d,) what an observed feature takes off a log-density, log of its scale and ½ log 2π
    means, offsets : (groups, d, GROUP) anchored means, and these less the origin of the moments
    factors : (groups or 1, d, d, GROUP) U, upper triangular with U Uᵀ the precision
    roots : (groups or 1, d, d, GROUP) V, lower triangular with V Vᵀ the covariance
    covariances : (groups or 1, d, d, GROUP)
    log_det : (groups, GROUP) log|U|
    """

    center: Array
    unscale: Array
    volumes: Array
    means: Array
    offsets: Array
    factors: Array
    roots: Array
    covariances: Array
    log_det: Array


class Precisions(NamedTuple):
    """Gaussians with covariance matrices, where products of their precisions lose no digits that matter.

    Attributes
    ----------
    center, unscale, volumes : as in `Matrices`
    filling : (d,) the anchored value that stands for one that is missing
    precisions : (groups or 1, d, d, GROUP) P
    slopes : (groups, d, GROUP) P·m
    """

    center: Array
    unscale: Array
    volumes: Array
    filling: Array
    precisions: Array
    slopes: Array


class Variances(NamedTuple):
    """Gaussians with variances alone, as compiled code reads them.

    Attributes
    ----------
    center, unscale, volumes, means, offsets : as in `Matrices`
    factors : (groups, d, GROUP) reciprocal deviations
    log_factors : (groups, d, GROUP) their logarithms
    variances : (groups, d, GROUP)
    """

    center: Array
    unscale: Array
    volumes: Array
    means: Array
    offsets: Array
    factors: Array
    log_factors: Array
    variances: Array


class Corner(NamedTuple):
    """Buffers for what one row lacks under a group of components.

    Attributes
    ----------
    row : (d,) anchored and filled
    lacking : (d,) int64 which features
    triangle, inverse : (d, d, GROUP) L with L·Lᵀ = P_mm, and L⁻ᵀ
    along, sizes : (d, GROUP) L⁻¹·(P(x̃ − m))_m, and what follows; reciprocals of the diagonal of L
    scalars : (4, GROUP)
    resp : (GROUP,)
    """

    row: Array
    lacking: Array
    triangle: Array
    inverse: Array
    along: Array
    sizes: Array
    scalars: Array
    resp: Array


def corner_for(d: int) -> Corner:
    """Buffers of d features."""
    return Corner(
        row=np.zeros(d),
        lacking=np.zeros(d, dtype=np.int64),
        triangle=np.zeros((d, d, GROUP)),
        inverse=np.zeros((d, d, GROUP)),
        along=np.zeros((d, GROUP)),
        sizes=np.zeros((d, GROUP)),
        scalars=np.zeros((4, GROUP)),
        resp=np.zeros(GROUP),
    )


class Work(NamedTuple):
    """Buffers for one row and a group of components.

    Attributes
    ----------
    z : (d, GROUP) the row less the mean, what it lacks filled in
    basis : (d, d + SPARE, GROUP) orthonormal vectors
    triangle : (d, d, GROUP) R
    inverse : (d, d, GROUP) R⁻¹, or what one observed feature says of another
    white : (d + SPARE, GROUP) the whitened residual
    along, sizes : (d, GROUP) its coordinates in the basis; reciprocals of the diagonal of R
    scalars : (4, GROUP) distance, log-determinant, and two more
    covariance : (d, d, GROUP) of what the row lacks
    observed, lacking : (d,) int64 which features
    row : (d,) anchored
    resp : (GROUP,)
    """

    z: Array
    basis: Array
    triangle: Array
    inverse: Array
    white: Array
    along: Array
    sizes: Array
    scalars: Array
    covariance: Array
    observed: Array
    lacking: Array
    row: Array
    resp: Array


def work_for(d: int, matrices: bool) -> Work:
    """Buffers of d features."""
    side = d if matrices else 0
    return Work(
        z=np.zeros((d, GROUP)),
        basis=np.zeros((side, d + SPARE, GROUP)),
        triangle=np.zeros((side, d, GROUP)),
        inverse=np.zeros((side, d, GROUP)),
        white=np.zeros((d + SPARE, GROUP)),
        along=np.zeros((d, GROUP)),
        sizes=np.zeros((d, GROUP)),
        scalars=np.zeros((4, GROUP)),
        covariance=np.zeros((side, d, GROUP)),
        observed=np.zeros(d, dtype=np.int64),
        lacking=np.zeros(d, dtype=np.int64),
        row=np.zeros(d),
        resp=np.zeros(GROUP),
    )


def work_bytes(d: int, matrices: bool) -> int:
    """What `work_for` takes."""
    side = 4 * d * (d + SPARE) if matrices else 0
    return 8 * (GROUP * (side + 5 * d + 16) + 4 * d)
