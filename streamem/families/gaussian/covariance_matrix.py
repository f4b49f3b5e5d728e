"""Covariance matrices: full, and tied. Second moments are packed by rows of the upper triangle."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import rq
from scipy.linalg.lapack import dtrtri

from streamem.core.errors import NumericalError
from streamem.core.numerics import EPS
from streamem.families.covariance_floor import MEAN_DIGITS, floor_of
from streamem.kernels.features.features import Features, features_of_moments

Array = NDArray[Any]


@lru_cache(maxsize=8)
def _upper(d: int) -> tuple[Array, Array]:
    """Rows and columns of the upper triangle, row by row."""
    rows, columns = np.triu_indices(d)
    for index in (rows, columns):
        index.setflags(write=False)
    return rows, columns


def pack(symmetric: Array) -> Array:
    """The upper triangle of (…, d, d) by rows, as second moments are."""
    rows, columns = _upper(symmetric.shape[-1])
    packed: Array = symmetric[..., rows, columns]
    return packed


@lru_cache(maxsize=8)
def _diagonal(d: int) -> Array:
    """Where the squares lie among the packed."""
    rows, columns = _upper(d)
    places = np.flatnonzero(rows == columns)
    places.setflags(write=False)
    return places


def unpack(packed: Array, d: int) -> Array:
    """Symmetric matrices (…, d, d) of their upper triangles."""
    rows, columns = _upper(d)
    symmetric = np.empty((*packed.shape[:-1], d, d))
    symmetric[..., rows, columns] = packed
    symmetric[..., columns, rows] = packed
    return symmetric


def _shifts(first: Array, weight: Array, shift: Array) -> Array:
    """What a shift adds to the second moments (K, M): f sᵀ + s fᵀ + w s sᵀ."""
    crossed = first[:, :, None] * shift[:, None, :]
    return pack(crossed + np.swapaxes(crossed, 1, 2) + weight[:, None, None] * shift[:, :, None] * shift[:, None, :])


def _quadratic(precision: Array) -> Array:
    d = precision.shape[-1]
    halved = -precision
    halved[..., np.arange(d), np.arange(d)] *= 0.5
    return pack(halved)


@np.errstate(invalid="ignore")  # of an infinite covariance, which is refused
def _far_above_floor(least: Array, factors: Array) -> Array:
    """Whether the smallest eigenvalue of F^-½·Σ·F^-½, at least 1/tr of its inverse, exceeds 2, with F = diag(least)."""
    return np.asarray((_row_squares(factors) * least).sum(axis=-1) < 0.5)  # not of an infinite trace


def _row_squares(factors: Array) -> Array:
    """Diagonals of U Uᵀ."""
    return np.asarray(np.einsum("...ij,...ij->...i", factors, factors))


def _raised(covariance: Array, least: Array) -> tuple[Array, Array, Array]:
    """What maximizes log|Σ⁻¹| − tr(Σ⁻¹·covariance) under Σ ⪰ diag(least), whether that is another, and its U.

    With F = diag(least): F^½·V·max(Λ, 1)·Vᵀ·F^½ for the eigenvalues of F^-½·covariance·F^-½ = V·Λ·Vᵀ. Where the floor
    is met the objective is not stationary, and an error of the smallest eigenvalue would enter it in first order: the
    factor is made of the eigenvectors, since that of the rounded matrix errs by eps·condition.
    """
    root = np.sqrt(least)
    values, vectors = np.linalg.eigh(covariance / root[:, None] / root)
    low, kept = bool((values < 1).any()), np.maximum(values, 1.0)
    upper = rq(vectors / np.sqrt(kept) / root[:, None], mode="r")
    upper *= np.where(np.diag(upper) < 0, -1.0, 1.0)
    if low:
        halves = root[:, None] * vectors * np.sqrt(kept)
        covariance = halves @ halves.T
    return covariance, np.array(low), upper


def _floored(covariance: Array, least: Array) -> tuple[Array, Array, Array]:
    if not (np.isfinite(covariance).all() and np.isfinite(least).all()):
        raise NumericalError("a covariance is not finite; the data holds values whose squares overflow, rescale it")
    with suppress(np.linalg.LinAlgError):
        upper = _inverse_cholesky(covariance)
        if _far_above_floor(least, upper):
            return covariance, np.array(False), upper
    return _raised(covariance, least)


def _inverse_cholesky(covariance: Array) -> Array:
    """Upper-triangular inverses of the lower Cholesky factors (…, d, d), transposed."""
    lower = np.linalg.cholesky(covariance)
    inverse = np.empty_like(lower)
    for index in np.ndindex(lower.shape[:-2]):
        inverse[index] = dtrtri(lower[index], lower=1)[0].T
    return inverse


def inverses_of_upper(factors: Array) -> Array:
    """Inverses of upper triangles (K, d, d): of U with P = U·Uᵀ, that is Vᵀ with V·Vᵀ = Σ."""
    return np.stack([dtrtri(factor, lower=0)[0] for factor in factors])


class Full:
    """A covariance matrix (K, d, d) of its own for every component."""

    shared, isotropic = False, False

    def n_moments(self, d: int) -> int:
        return d * (d + 1) // 2

    def features(self, d: int) -> Features:
        rows, columns = _upper(d)
        return features_of_moments(d, 1 + rows, 1 + columns)

    def weighted_moments(self, xt: Array, resp: Array, scratch: Array) -> Array:
        return pack(np.multiply(xt, resp, out=scratch) @ xt.T)

    def shifted(self, moments: Array, first: Array, weight: Array, shift: Array) -> Array:
        return moments + _shifts(first, weight, shift)

    def stretched(self, moments: Array, ratio: Array) -> Array:
        return moments * pack(np.outer(ratio, ratio))

    def estimate(self, weight: Array, means: Array, moments: Array, reg: Array) -> Array:
        d = means.shape[1]
        covariances = unpack(moments / weight[:, None], d) - means[:, :, None] * means[:, None, :]
        covariances[:, np.arange(d), np.arange(d)] += reg
        return covariances

    def squares(self, weight: Array, moments: Array, d: int) -> Array:
        return np.asarray(moments[:, _diagonal(d)] / weight[:, None])

    def pooled(self, weight: Array, values: Array) -> Array:
        return values

    def size(self, covariances: Array, squares: Array | float, means: Array | float) -> Array:
        return np.maximum(np.einsum("...ii->...i", covariances), squares + MEAN_DIGITS * means)

    def least(self, size: Array, eps: Array | float = EPS) -> Array:
        return floor_of(size, eps, size.shape[-1])

    def exceeds(self, covariances: Array, least: Array) -> NDArray[np.bool_]:
        differences = covariances - least
        found = np.zeros(differences.shape[:-2], dtype=np.bool_)
        for index in np.ndindex(found.shape):
            with suppress(np.linalg.LinAlgError):
                found[index] = np.isfinite(np.linalg.cholesky(differences[index])).all()
        return found

    def lost(self, diagonal: Array, size: Array, eps: Array | float) -> Array:
        least = self.least(size, eps)
        summed, left = (eps * diagonal * size).sum(axis=-1), (diagonal * least).sum(axis=-1)
        # Near the floor eigenvalues of F^-½·Σ·F^-½ err by eps times their sum; those of its inverse are at most 1.
        turned = EPS * (size / least).sum(axis=-1) * np.where(left < 0.5, 0.0, np.sqrt(np.minimum(left, left**2)))
        return np.asarray(summed**2 + turned**2)

    def precisions_cholesky(self, covariances: Array) -> Array:
        return _inverse_cholesky(covariances)

    def floor_and_factor(self, covariances: Array, least: Array) -> tuple[Array, Array, Array]:
        with suppress(np.linalg.LinAlgError):
            factors = _inverse_cholesky(covariances)
            if _far_above_floor(least, factors).all():
                return covariances, np.zeros(covariances.shape[:-2], dtype=np.bool_), factors
        if covariances.ndim == 2:
            return _floored(covariances, least)
        found = [_floored(covariance, own) for covariance, own in zip(covariances, least, strict=True)]
        kept, floored, upper = zip(*found, strict=True)
        return np.stack(kept), np.stack(floored), np.stack(upper)

    def quadratic(self, factor: Array) -> Array:
        return _quadratic(self.precisions(factor))

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.matmul(factor[component].T, difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return np.asarray(factor @ (np.swapaxes(factor, 1, 2) @ means[:, :, None]))[:, :, 0]

    def log_det(self, factor: Array, d: int) -> Array:
        return np.asarray(np.log(np.einsum("...ii->...i", factor)).sum(axis=-1))

    def precision_diagonal(self, factor: Array, d: int) -> Array:
        return _row_squares(factor)

    def squared_precisions(self, factor: Array) -> Array:
        return np.asarray(self.precisions(factor) ** 2)

    def term_norms(self, squared_precisions: Array, size: Array) -> Array:
        squares = size**2
        return np.asarray(np.sqrt(((squared_precisions @ squares[:, :, None])[:, :, 0] * squares).sum(axis=1)))

    def variances(self, covariances: Array, k: int, d: int) -> Array:
        return np.broadcast_to(np.einsum("...ii->...i", covariances), (k, d))

    def scaled(self, values: Array, scale: Array) -> Array:
        return values * scale[:, None] * scale

    def scaled_cholesky(self, factor: Array, scale: Array) -> Array:
        return factor / scale[:, None]

    def precisions(self, factor: Array) -> Array:
        return factor @ np.swapaxes(factor, -1, -2)

    def n_parameters(self, k: int, d: int) -> int:
        return k * d * (d + 1) // 2


class Tied(Full):
    """One covariance matrix (d, d) for all components."""

    shared = True

    def shifted(self, moments: Array, first: Array, weight: Array, shift: Array) -> Array:
        return np.asarray(moments + _shifts(first, weight, shift).sum(axis=0))

    def estimate(self, weight: Array, means: Array, moments: Array, reg: Array) -> Array:
        d = means.shape[1]
        between = (weight[:, None] * means).T @ means
        covariance = (unpack(moments, d) - between) / weight.sum()
        covariance[np.arange(d), np.arange(d)] += reg
        return np.asarray(covariance)

    def squares(self, weight: Array, moments: Array, d: int) -> Array:
        return np.asarray(moments[_diagonal(d)] / weight.sum())

    def pooled(self, weight: Array, values: Array) -> Array:
        return np.asarray(weight @ values / weight.sum())

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.matmul(factor.T, difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return np.asarray(means @ factor @ factor.T)

    def n_parameters(self, k: int, d: int) -> int:
        return d * (d + 1) // 2
