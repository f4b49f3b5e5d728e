"""What contradicts itself in the parameters of a Gaussian: a factor that is not that of its covariance, above all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from streamem.core.arrays import Params
from streamem.core.faults import flags, missing, powers_of_two, shaped
from streamem.core.numerics import EPS
from streamem.families.covariance_floor import EPS_32, floor_of

Array = NDArray[Any]

SAFETY = 16.0
"""Of bounds on rounding: that of the factorization, of the inverse, and of looking at both."""


FURTHER = 4.0
"""A floor may have been so many times as high as the mean squares of the present parameters tell."""


def gaussian_faults(params: Params, covariance_type: str, k: int, d: int) -> list[str]:
    """Contradictions in parameters of k Gaussians in d dimensions, in their anchored frame."""
    if found := missing(params, ("means", "covariances", "precisions_cholesky", "center", "scale", "empty", "floored")):
        return found
    found = shaped("means", params.means, (k, d)) + anchor_faults(params, d)
    found += flags("empty", params.empty, (k,)) + flags("floored", params.floored, (k,), ())
    shapes: dict[str, tuple[int, ...]] = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
    shape = shapes[covariance_type]
    named = ("covariances", params.covariances, "precisions_cholesky", params.precisions_cholesky, shape)
    if covariance_type in ("diag", "spherical"):
        return found + variance_faults(*named)
    return found or matrix_faults(*named, params.means**2 if len(shape) == 3 else (params.means**2).max(axis=0))


def anchor_faults(params: Params, d: int) -> list[str]:
    """Contradictions in a center and a scale."""
    return shaped("center", params.center, (d,)) + powers_of_two("scale", params.scale, (d,))


def variance_faults(name: str, variances: Any, other: str, factors: Any, shape: tuple[int, ...]) -> list[str]:
    """Contradictions in variances, which are to be positive, and factors, which are to be 1/√variance."""
    if found := shaped(name, variances, shape) + shaped(other, factors, shape):
        return found
    if not (variances > 0).all():
        return [f"{name} holds {variances.min():.6g}, where variances > 0 are needed"]
    if not (factors > 0).all() or not (np.abs(factors * np.sqrt(variances) - 1) <= SAFETY * EPS).all():
        return [f"{other} is not that of {name}"]
    return []


def matrix_faults(
    name: str, covariances: Any, other: str, factors: Any, shape: tuple[int, ...], squares: Array | float
) -> list[str]:
    """Unless matrices are symmetric and positive definite, and the factors U upper triangular with C⁻¹ = U Uᵀ.

    UᵀCU is the identity but for rounding, whose size |Uᵀ||L||Lᵀ||U| tells, with L = U⁻ᵀ (Higham 2002, §10.1, 14.2): a
    bound that knows the conditioning and no scale. Near their floor, to which `squares` of means (…, d) contribute,
    factors are made of eigenvectors, whose error is of the size of the largest eigenvalue (see `covariance_matrix`).
    """
    if found := shaped(name, covariances, shape) + shaped(other, factors, shape):
        return found
    d = shape[-1]
    sizes = np.einsum("...ii->...i", covariances) + squares
    for covariance, factor, size in zip(
        covariances.reshape(-1, d, d), factors.reshape(-1, d, d), sizes.reshape(-1, d), strict=True
    ):
        if np.tril(factor, -1).any() or not (np.diagonal(factor) > 0).all():
            return [f"{other} holds a matrix that is not upper triangular with a positive diagonal"]
        if not (np.diagonal(covariance) > 0).all():
            return [f"{name} holds a variance of {np.diagonal(covariance).min():.6g}, where > 0 is needed"]
        lower = dtrtri(factor, lower=0)[0].T
        deviation = np.sqrt(np.diagonal(covariance))
        bound = _bound(factor, lower) + _bound_at_floor(factor, deviation, size)
        rounding = SAFETY * (d + 1) * EPS * np.sqrt(np.outer(size, size))  # of moments from which means were taken
        if not (np.abs(covariance - covariance.T) <= bound.max() * np.outer(deviation, deviation) + rounding).all():
            return [f"{name} holds a matrix that is not symmetric"]
        below = np.tril(covariance)  # which alone is factored
        if not (np.abs(factor.T @ (below + np.tril(below, -1).T) @ factor - np.eye(d)) <= bound).all():
            return [f"{other} is not that of {name}, which may not be positive definite"]
    return []


def _bound_at_floor(factor: Array, deviation: Array, size: Array) -> Array:
    """Bound on the rounding of UᵀCU for factors by eigenvectors, of matrices not far above a floor diag(F).

    Nobody has kept F: it follows from mean squares about a mean, or about an anchor, summed in float64 or float32.
    """
    candidates = [floor_of(own, eps, len(factor)) for own in (deviation**2, size) for eps in (EPS, EPS_32)]
    return np.max([_bound_of_vectors(factor, deviation, floor) for floor in candidates], axis=0)


def _bound_of_vectors(factor: Array, deviation: Array, floor: Array) -> Array:
    upper = np.abs(factor.T)
    if FURTHER * (upper**2).sum(axis=0) @ floor < 1 / 2:
        return np.zeros_like(factor)
    largest = (deviation**2 / floor).sum()
    of_matrix, of_vectors = upper @ deviation, upper @ np.sqrt(FURTHER * floor)
    bound = np.outer(of_matrix, of_matrix) + largest * np.outer(of_vectors, of_vectors)
    bound += 2 * np.linalg.norm(factor, axis=1) @ deviation  # the triangle is found by reflections, row by row
    return np.asarray(SAFETY * (len(factor) + 1) * EPS * bound)


def _bound(factor: Array, lower: Array) -> Array:
    """Bound on the rounding of UᵀCU (d, d)."""
    size = np.abs(factor.T) @ np.abs(lower)
    return np.asarray(SAFETY * (len(factor) + 1) * EPS * (size @ size.T))
