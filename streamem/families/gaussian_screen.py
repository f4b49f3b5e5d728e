"""The E-step of a Gaussian mixture below its dense cost: float32 scores tell which components matter to a row.

Those pairs are computed in float64 by differences, and statistics are summed over them alone. What is left out is less
than a rounding error: a score is within `e` of the log-density, so that a component more than ln(K/eps) + 2e below the
best score of its row has less than eps/K of its responsibility. Of rows that no component explains well, whose scores
may err by more, all components are computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import negligible
from streamem.core.ports import Mixing, MixtureSums
from streamem.core.remembered import remembered
from streamem.core.stats import Stats
from streamem.families.covariance import Covariance
from streamem.families.exponential import NO_WEIGHTS
from streamem.families.features import as_rows
from streamem.families.gaussian_kernels import (
    as_stats,
    features_of,
    log_constants,
    n_statistics,
    natural_panels,
    product_dtype,
    uses_differences,
)
from streamem.families.gaussian_rounding import SAFETY, difference_rounding, moment_rounding
from streamem.families.pair_buffers import BLOCK_ROWS, Gaussians, buffers_bytes, pair_buffers
from streamem.families.tiling import products_of

Array = NDArray[Any]

LEAST_COMPONENTS = 8

MOST_ERROR = 16.0
"""Largest error of a score, in nats, at which scores still tell components apart."""


class _Margin(NamedTuple):
    """`width` nats below the best score of a row that is at least `ordinary`, a component does not matter."""

    width: float
    ordinary: float


def screen_of(structure: Covariance, params: Params, dtype: DTypeLike, pairs_per_row: float) -> Mixing | None:
    """A screened kernel where it is accurate and cheaper than the dense one, at so many active pairs a row."""
    k, d = params.means.shape
    if structure.shared or k < LEAST_COMPONENTS or uses_differences(structure, params):
        return None
    if screened_ns(structure, k, d, pairs_per_row) >= dense_ns(structure, params, dtype):
        return None
    gaussians = remembered(
        params.means,
        params.precisions_cholesky,
        ("screened", type(structure)),
        lambda: _gaussians(structure, params),
    )
    return None if gaussians is None else ScreenedKernel(structure, params, gaussians)


def dense_ns(structure: Covariance, params: Params, dtype: DTypeLike) -> float:
    """Nanoseconds a row of the dense kernel, as measured (bench/README.md); only the ratio to the other matters."""
    k, d = params.means.shape
    features = n_statistics(structure, d)
    if product_dtype(structure, params, dtype) == np.float32:
        return 4 * k * features / 100 + 0.24 * features + 1.0 * k
    return 4 * k * features / 50 + 0.44 * features + 1.9 * k


def screened_ns(structure: Covariance, k: int, d: int, pairs_per_row: float) -> float:
    """Nanoseconds a row of the screened kernel."""
    features = n_statistics(structure, d)
    pair = 8 + 1.3 * d if _by_variances(structure, d) else 16 + 0.1 * d**2
    return 2 * k * features / 95 + 0.12 * features + 1.0 * k + 1.2 * pairs_per_row * pair


def screen_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes that a screened kernel holds beyond those of a dense one."""
    return buffers_bytes(k, d) + (0 if _by_variances(structure, d) else 8 * 3 * k * d * d)


def _by_variances(structure: Covariance, d: int) -> bool:
    return structure.n_moments(d) <= d


def _margin(structure: Covariance, params: Params) -> _Margin | None:
    """What float32 scores can tell, or None where they err too much.

    A component within `width` of a best score s has a quadratic form q = 2(constant − s + width) at most. Such a row
    lies q/d times further out than a typical one, in the mean square, so the terms of its quadratic form are those of
    `conditioning` with r² = m² + Σ_ii·q/d. Ordinary is a best score that a row six standard deviations beyond the
    typical distance reaches even under the widest component.
    """
    k, d = params.means.shape
    constants = log_constants(structure, params)
    certain = -float(np.log(negligible(k)))
    ordinary = float(constants.min()) - 0.5 * (d + 6.0 * np.sqrt(2.0 * d)) - certain
    variances = structure.variances(params.covariances, k, d)
    width = certain
    for _ in range(2):  # the error widens the margin, and the margin the error: the second round is enough of that
        reach = np.maximum(1.0, 2.0 * (constants - ordinary + width) / d)
        size = np.sqrt(params.means**2 + variances * reach[:, None])
        terms = structure.term_norms(params.precisions_cholesky, size) + np.abs(constants)
        error = SAFETY * float(np.finfo(np.float32).eps) * float(terms.max())
        if not error <= MOST_ERROR:
            return None
        width = certain + 2.0 * error
    return _Margin(width, ordinary)


def _gaussians(structure: Covariance, params: Params) -> Gaussians | None:
    margin = _margin(structure, params)
    if margin is None:
        return None
    (k, d), factors = params.means.shape, params.precisions_cholesky
    by_variances = _by_variances(structure, d)
    own = np.empty((k, d) if by_variances else (k, d, d))
    own[...] = factors.reshape(k, -1) if by_variances else factors
    return Gaussians(params.means.copy(), own, log_constants(structure, params).copy(), *margin)


class ScreenedKernel:
    """Full, diagonal and spherical Gaussians over active pairs; statistics about the anchor, like those by products."""

    path = "float64 pairs, screened in float32"

    def __init__(self, structure: Covariance, params: Params, gaussians: Gaussians) -> None:
        k, d = params.means.shape
        self._structure, self._d, self._gaussians = structure, d, gaussians
        self.rounding = difference_rounding(structure, params) + moment_rounding(structure, params, False)
        self._panels = natural_panels(structure, params, np.float32)
        self._features, self._center, self._scale = features_of(structure, params), params.center, params.scale
        self._sums, self._moments = np.zeros((k, 1 + d)), np.zeros_like(gaussians.factors)

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d) where they matter, and their statistics."""
        from streamem.families.screened_pass import screened_pass  # Numba loads with the first kernel

        k, occupied = len(log_weights), np.zeros(len(log_weights))
        log_likelihood, pairs = screened_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            # A component without weight has no pairs; a finite number keeps infinities out of the scores.
            np.maximum(log_weights, np.finfo(np.float32).min),
            products_of(self._panels, self._features, self._center, self._scale, BLOCK_ROWS),
            self._gaussians,
            pair_buffers(k, self._d),
            self._sums,
            self._moments,
            occupied,
            negligible(k),
        )
        return MixtureSums(log_likelihood, pairs, occupied)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M)."""
        if self._moments.ndim == 3:
            rows, columns = np.triu_indices(self._d)
            return as_stats(self._sums, self._moments[:, rows, columns], self._d)
        spherical = self._structure.n_moments(self._d) < self._d
        moments = self._moments.sum(axis=1, keepdims=True) if spherical else self._moments
        return as_stats(self._sums, moments, self._d)
