"""Variances alone: diagonal, and spherical."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.families.covariance_floor import FLOOR
from streamem.families.features import Features, features_of_moments

Array = NDArray[Any]


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

    def floor(self, covariances: Array) -> tuple[Array, Array]:
        low = ~(covariances >= FLOOR)
        return np.where(low, FLOOR, covariances), np.asarray(low.any(axis=1))

    def precisions_cholesky(self, covariances: Array) -> Array:
        return np.asarray(1.0 / np.sqrt(covariances))

    def floor_and_factor(self, covariances: Array) -> tuple[Array, Array, Array]:
        covariances, floored = self.floor(covariances)
        return covariances, floored, self.precisions_cholesky(covariances)

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

    def floor(self, covariances: Array) -> tuple[Array, Array]:
        low = np.asarray(~(covariances >= FLOOR))
        return np.where(low, FLOOR, covariances), low

    def precisions_cholesky(self, covariances: Array) -> Array:
        return np.asarray(1.0 / np.sqrt(covariances))

    def floor_and_factor(self, covariances: Array) -> tuple[Array, Array, Array]:
        covariances, floored = self.floor(covariances)
        return covariances, floored, self.precisions_cholesky(covariances)

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
