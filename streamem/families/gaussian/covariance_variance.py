"""Variances alone: diagonal, and spherical."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import NumericalError
from streamem.core.numerics import EPS
from streamem.families.covariance_floor import MEAN_DIGITS, floor_of
from streamem.kernels.features.features import Features, features_of_moments

Array = NDArray[Any]


def _raised(variances: Array, least: Array) -> tuple[Array, Array]:
    """Variances of at least that size, and which are others."""
    if not (np.isfinite(variances).all() and np.isfinite(least).all()):
        raise NumericalError("a variance is not finite; the data holds values whose squares overflow, rescale it")
    low = variances < least
    return np.where(low, least, variances), low


class Diagonal:
    """A variance (K, d) for every component and feature."""

    shared, isotropic = False, False

    def n_moments(self, d: int) -> int:
        return d

    def features(self, d: int) -> Features:
        return features_of_moments(d, 1 + np.arange(d), 1 + np.arange(d))

    def weighted_moments(self, xt: Array, resp: Array, scratch: Array) -> Array:
        return np.asarray(np.multiply(xt, xt, out=scratch) @ resp)

    def shifted(self, moments: Array, first: Array, weight: Array, shift: Array) -> Array:
        return moments + 2 * first * shift + weight[:, None] * shift**2

    def stretched(self, moments: Array, ratio: Array) -> Array:
        return moments * ratio**2

    def estimate(self, weight: Array, means: Array, moments: Array, reg: Array) -> Array:
        return moments / weight[:, None] - means**2 + reg

    def squares(self, weight: Array, moments: Array, d: int) -> Array:
        return np.asarray(moments / weight[:, None])

    def pooled(self, weight: Array, values: Array) -> Array:
        return values

    def size(self, covariances: Array, squares: Array | float, means: Array | float) -> Array:
        return np.maximum(covariances, squares + MEAN_DIGITS * means)

    def least(self, size: Array, eps: Array | float = EPS) -> Array:
        return floor_of(size, eps, 1)

    def exceeds(self, covariances: Array, least: Array) -> NDArray[np.bool_]:
        return np.asarray((covariances > least).all(axis=1))

    def lost(self, diagonal: Array, size: Array, eps: Array | float) -> Array:
        return np.asarray(((eps * diagonal * size) ** 2).sum(axis=1))

    def precisions_cholesky(self, covariances: Array) -> Array:
        return np.asarray(1.0 / np.sqrt(covariances))

    def floor_and_factor(self, covariances: Array, least: Array) -> tuple[Array, Array, Array]:
        covariances, low = _raised(covariances, least)
        return covariances, np.asarray(low.any(axis=1)), self.precisions_cholesky(covariances)

    def quadratic(self, factor: Array) -> Array:
        return -0.5 * factor**2

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.multiply(factor[component][:, None], difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return factor**2 * means

    def log_det(self, factor: Array, d: int) -> Array:
        return np.asarray(np.log(factor).sum(axis=1))

    def precision_diagonal(self, factor: Array, d: int) -> Array:
        return factor**2

    def squared_precisions(self, factor: Array) -> Array:
        return np.asarray(factor**4)

    def term_norms(self, squared_precisions: Array, size: Array) -> Array:
        return np.asarray(np.sqrt((squared_precisions * size**4).sum(axis=1)))

    def variances(self, covariances: Array, k: int, d: int) -> Array:
        return np.broadcast_to(np.reshape(covariances, (k, -1)), (k, d))

    def scaled(self, values: Array, scale: Array) -> Array:
        return values * scale**2

    def scaled_cholesky(self, factor: Array, scale: Array) -> Array:
        return factor / scale

    def precisions(self, factor: Array) -> Array:
        return factor**2

    def n_parameters(self, k: int, d: int) -> int:
        return k * d


class Spherical:
    """One variance (K,) for every component."""

    shared, isotropic = False, True

    def n_moments(self, d: int) -> int:
        return 1

    def features(self, d: int) -> Features:
        return features_of_moments(d, np.zeros(1), np.full(1, 1 + d), norm=True)

    def weighted_moments(self, xt: Array, resp: Array, scratch: Array) -> Array:
        return np.asarray(resp @ np.einsum("db,db->b", xt, xt, out=scratch[0]))[None]

    def shifted(self, moments: Array, first: Array, weight: Array, shift: Array) -> Array:
        added = 2 * first * shift + weight[:, None] * shift**2
        return np.asarray(moments + added.sum(axis=1, keepdims=True))

    def stretched(self, moments: Array, ratio: Array) -> Array:
        return moments * ratio[0] ** 2

    def estimate(self, weight: Array, means: Array, moments: Array, reg: Array) -> Array:
        d = means.shape[1]
        within = moments[:, 0] / weight - np.einsum("kd,kd->k", means, means)
        return within / d + reg.mean()

    def squares(self, weight: Array, moments: Array, d: int) -> Array:
        return np.asarray(moments[:, 0] / (d * weight))

    def pooled(self, weight: Array, values: Array) -> Array:
        return np.asarray(values.mean(axis=1))

    def size(self, covariances: Array, squares: Array | float, means: Array | float) -> Array:
        return np.maximum(covariances, squares + MEAN_DIGITS * means)

    def least(self, size: Array, eps: Array | float = EPS) -> Array:
        return floor_of(size, eps, 1)

    def exceeds(self, covariances: Array, least: Array) -> NDArray[np.bool_]:
        return np.asarray(covariances > least)

    def lost(self, diagonal: Array, size: Array, eps: Array | float) -> Array:
        return np.asarray(((diagonal * (eps * size)[:, None]) ** 2).sum(axis=1))

    def precisions_cholesky(self, covariances: Array) -> Array:
        return np.asarray(1.0 / np.sqrt(covariances))

    def floor_and_factor(self, covariances: Array, least: Array) -> tuple[Array, Array, Array]:
        covariances, low = _raised(covariances, least)
        return covariances, np.asarray(low), self.precisions_cholesky(covariances)

    def quadratic(self, factor: Array) -> Array:
        return -0.5 * factor[:, None] ** 2

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        return np.multiply(factor[component], difference, out=out)

    def precision_times(self, factor: Array, means: Array) -> Array:
        return factor[:, None] ** 2 * means

    def log_det(self, factor: Array, d: int) -> Array:
        return d * np.log(factor)

    def precision_diagonal(self, factor: Array, d: int) -> Array:
        return np.repeat(factor[:, None] ** 2, d, axis=1)

    def squared_precisions(self, factor: Array) -> Array:
        return np.asarray(factor[:, None] ** 4)

    def term_norms(self, squared_precisions: Array, size: Array) -> Array:
        return np.asarray(np.sqrt((squared_precisions * size**4).sum(axis=1)))

    def variances(self, covariances: Array, k: int, d: int) -> Array:
        return np.broadcast_to(np.reshape(covariances, (k, -1)), (k, d))

    def scaled(self, values: Array, scale: Array) -> Array:
        return values * scale[0] ** 2

    def scaled_cholesky(self, factor: Array, scale: Array) -> Array:
        return factor / scale[0]

    def precisions(self, factor: Array) -> Array:
        return factor**2

    def n_parameters(self, k: int, d: int) -> int:
        return k
