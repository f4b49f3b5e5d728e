"""Where factor components begin: the principal directions of a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.families.factors.m_step import FLOOR

Array = NDArray[Any]

BLOCK_ROWS = 512
MOST_SQUARE = 256
"""Features of which a covariance is decomposed; of more, only products with some directions are taken."""
MOST_ROWS = 8192
"""Of a sample, the same in every run: more take longer than an iteration, and tell directions hardly better."""
MORE, ROUNDS = 8, 6
"""Directions beyond the factors, and products with the covariance, of a subspace iteration."""
LEAST_LEFT = 0.1
"""Share of a feature's variance that is noise at the start, at least."""
LEAST_EXPLAINED = 0.01
"""Share of a direction's variance that its factor has at the start, at least: a factor of none would stay so."""


class Begun(NamedTuple):
    """Starting values in the anchored frame: means (d,), loadings (d, q), noise (d,) or () of all."""

    means: Array
    loadings: Array
    noise: Any


def begun(x: Array, weight: Array | None, center: Array, scale: Array, q: int, isotropic: bool) -> Begun:
    """Loadings along principal directions of rows x (n, d), NaN taken for the mean (Tipping & Bishop 1999, §3.2).

    With noise of each column the directions are those of correlations, so that a start does not depend on units.
    """
    if len(x) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(0).integers(len(x), size=MOST_ROWS))
        x, weight = x[chosen], None if weight is None else weight[chosen]
    rows = _Rows(x, weight, center, scale)
    unit = np.ones(len(center)) if isotropic else np.sqrt(np.where(rows.variances > 0, rows.variances, 1.0))
    variances = rows.variances / unit**2
    values, vectors = _principal(rows, unit, q)
    left = np.maximum(variances.sum() - values.sum(), 0.0) / max(1, len(center) - q)
    level = min(left, 0.5 * values[-1]) if len(center) == q else left
    explained = np.maximum(values - level, LEAST_EXPLAINED * np.maximum(values, variances.mean()))
    loadings = unit[:, None] * vectors * np.sqrt(explained)
    if isotropic:
        return Begun(rows.means, loadings, np.float64(max(level, LEAST_EXPLAINED * variances.mean(), FLOOR)))
    noise = rows.variances - (loadings**2).sum(axis=1)
    return Begun(rows.means, loadings, np.maximum(noise, np.maximum(LEAST_LEFT * rows.variances, FLOOR)))


class _Rows:
    """Rows in the anchored frame, a block at a time; NaN is taken for the mean."""

    def __init__(self, x: Array, weight: Array | None, center: Array, scale: Array) -> None:
        self._x, self._center, self._finer = x, center, 1.0 / scale
        self._weight = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
        self._gaps, self.means = bool(np.isnan(x).any()), np.zeros(len(center))
        seen = self._summed(lambda y, w: w @ ~np.isnan(y)) if self._gaps else np.asarray(self._weight.sum())
        seen = np.maximum(seen, np.finfo(np.float64).tiny)
        self.means = self._summed(lambda y, w: w @ self._filled(y)) / seen
        self.variances = self._summed(lambda y, w: w @ np.square(self._filled(y))) / seen

    def covariance(self) -> Array:
        """C (d, d)."""
        total = self._summed(lambda y, w: self._filled(y).T @ (self._filled(y) * w[:, None]))
        return np.asarray(total / self._weight.sum())

    def covariance_times(self, directions: Array) -> Array:
        """C·V of directions V (d, m)."""
        total = self._summed(lambda y, w: self._filled(y).T @ ((self._filled(y) @ directions) * w[:, None]))
        return np.asarray(total / self._weight.sum())

    def _filled(self, y: Array) -> Array:
        return np.where(np.isnan(y), 0.0, y) if self._gaps else y

    def _summed(self, of_block: Callable[[Array, Array], Array]) -> Array:
        total: Any = 0.0
        for first in range(0, len(self._x), BLOCK_ROWS):
            part = slice(first, first + BLOCK_ROWS)
            y = (self._x[part] - self._center) * self._finer
            y -= self.means
            total = total + of_block(y, self._weight[part])
        return np.asarray(total)


def _principal(rows: _Rows, unit: Array, q: int) -> tuple[Array, Array]:
    """The q largest eigenvalues and eigenvectors (d, q) of the covariance in units (d,); of many features about."""
    d, own = len(unit), unit[:, None]

    def times(directions: Array) -> Array:
        return np.asarray(rows.covariance_times(directions / own) / own)

    if d <= MOST_SQUARE:
        values, vectors = np.linalg.eigh(rows.covariance() / own / unit)
    else:
        basis = np.linalg.qr(np.random.RandomState(0).standard_normal((d, min(d, q + MORE))))[0]
        for _ in range(ROUNDS):
            basis = np.linalg.qr(times(basis))[0]
        values, inner = np.linalg.eigh(basis.T @ times(basis))
        vectors = basis @ inner
    return np.maximum(values[::-1][:q], 0.0), np.ascontiguousarray(vectors[:, ::-1][:, :q])
