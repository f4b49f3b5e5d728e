"""Covariance matrices: full, and tied. Second moments are packed by rows of the upper triangle."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from streamem.core.errors import NumericalError
from streamem.families.covariance_floor import FLOOR
from streamem.families.features import Features, features_of_moments

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


def _unpack(packed: Array, d: int) -> Array:
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


def _all_above_floor(covariances: Array) -> bool:
    try:
        return bool(np.isfinite(np.linalg.cholesky(covariances - FLOOR * np.eye(covariances.shape[-1]))).all())
    except np.linalg.LinAlgError:
        return False


def _floor_matrix(covariance: Array) -> tuple[Array, bool]:
    d = covariance.shape[-1]
    if not np.isfinite(covariance).all():
        raise NumericalError("a covariance is not finite; the data holds values whose squares overflow, rescale it")
    try:
        np.linalg.cholesky(covariance - FLOOR * np.eye(d))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        # Below the rounding of the largest, a raised eigenvalue would be lost again.
        least = max(FLOOR, 8 * d * np.finfo(np.float64).eps * float(values[-1]))
        clipped = (vectors * np.maximum(values, least)) @ vectors.T
        return (clipped + clipped.T) / 2, True
    return covariance, False


def _far_above_floor(covariances: Array, factors: Array) -> bool:
    """Whether no smallest eigenvalue, which is at least 1/tr P, is near FLOOR or the rounding of the largest."""
    traces = np.einsum("...ij,...ij->...", factors, factors)
    rounding = 8 * covariances.shape[-1] * np.finfo(np.float64).eps * np.einsum("...ii->...", covariances)
    return bool((traces * np.maximum(FLOOR, rounding) < 0.5).all())  # not of an infinite trace


def _inverse_cholesky(covariance: Array) -> Array:
    """Upper-triangular inverses of the lower Cholesky factors (…, d, d), transposed."""
    lower = np.linalg.cholesky(covariance)
    inverse = np.empty_like(lower)
    for index in np.ndindex(lower.shape[:-2]):
        inverse[index] = dtrtri(lower[index], lower=1)[0].T
    return inverse


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
        covariances = _unpack(moments / weight[:, None], d) - means[:, :, None] * means[:, None, :]
        covariances[:, np.arange(d), np.arange(d)] += reg
        return covariances

    def floor(self, covariances: Array) -> tuple[Array, Array]:
        if _all_above_floor(covariances):
            return covariances, np.zeros(len(covariances), dtype=np.bool_)
        pairs = [_floor_matrix(covariance) for covariance in covariances]
        return np.stack([covariance for covariance, _ in pairs]), np.array([changed for _, changed in pairs])

    def precisions_cholesky(self, covariances: Array) -> Array:
        return _inverse_cholesky(covariances)

    def floor_and_factor(self, covariances: Array) -> tuple[Array, Array, Array]:
        with suppress(np.linalg.LinAlgError):
            factors = _inverse_cholesky(covariances)
            if _far_above_floor(covariances, factors):
                return covariances, np.zeros(covariances.shape[:-2], dtype=np.bool_), factors
        covariances, floored = self.floor(covariances)
        return covariances, floored, _inverse_cholesky(covariances)

    def quadratic(self, factor: Array) -> Array:
        return _quadratic(self.precisions(factor))

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.matmul(factor[component].T, difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return np.asarray(factor @ (np.swapaxes(factor, 1, 2) @ means[:, :, None]))[:, :, 0]

    def log_det(self, factor: Array, d: int) -> Array:
        return np.asarray(np.log(np.einsum("...ii->...i", factor)).sum(axis=-1))

    def precision_diagonal(self, factor: Array, d: int) -> Array:
        return np.asarray((factor**2).sum(axis=-1))

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
        covariance = (_unpack(moments, d) - between) / weight.sum()
        covariance[np.arange(d), np.arange(d)] += reg
        return np.asarray(covariance)

    def floor(self, covariances: Array) -> tuple[Array, Array]:
        covariance, changed = _floor_matrix(covariances)
        return covariance, np.array(changed)

    def precisions_cholesky(self, covariances: Array) -> Array:
        return _inverse_cholesky(covariances)

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.matmul(factor.T, difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return np.asarray(means @ factor @ factor.T)

    def n_parameters(self, k: int, d: int) -> int:
        return d * (d + 1) // 2
