"""The E-step of a Gaussian mixture below its dense cost: float32 scores tell which components matter to a row.

Those pairs are computed in float64 by differences, and statistics are summed over them alone. What is left out is less
than a rounding error: a score is within `e` of the log-density, so that a component more than ln(K/eps) + 2e below the
best score of its row has less than eps/K of its responsibility. Of rows that no component explains well, whose scores
may err by more, all components are computed. Where a sketch of a few directions is expected to rule out as many
(`gaussian_sketch`), it takes the place of the scores: bounds instead of log-densities, below the exact one of the best.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import negligible
from streamem.core.ports import Mixing, MixtureSums
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import (
    about_means,
    as_stats,
    by_variances,
    features_of,
    log_constants,
    n_statistics,
    natural_panels,
    own_factors,
    product_dtype,
)
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import pack
from streamem.families.gaussian.rounding import SAFETY, difference_rounding
from streamem.families.gaussian.sketch import Sketch, sketches
from streamem.kernels.features.exponential import NO_WEIGHTS
from streamem.kernels.features.features import as_rows
from streamem.kernels.pairs.pair_buffers import BLOCK_ROWS, Gaussians, buffers_bytes, moment_columns, pair_buffers
from streamem.kernels.tiling import panels_of, products_of

Array = NDArray[Any]
Value = TypeVar("Value")

LEAST_COMPONENTS = 8

MOST_ERROR = 16.0
"""Largest error of a score, in nats, at which scores still tell components apart."""

SKETCH_NS, SKETCH_ENTRY_NS = 4e7, 200.0
"""Nanoseconds of a dense pass on one core from which on it pays to look for directions: in all, and for every entry of
the covariances. Measured: looking takes 0.002 s at K = 16, d = 32, 0.01 at 64 and 64, 0.15 at 256 and 128."""

CHOICE_NS, CHOICE_PAIR_NS = 15e6, 125.0
"""The same of variances, where features are only chosen: in all, and for every feature of a pair of components.
Measured: choosing takes 0.002 s at K = 16, d = 32, 0.004 at 64 and 128, 0.2 at 256 and 128."""


class _Margin(NamedTuple):
    """`width` nats below the best score of a row that is at least `ordinary`, a component does not matter."""

    width: float
    ordinary: float


class _Bounds(NamedTuple):
    """A sketch, its natural parameters in panels, and up to where it rules out."""

    sketch: Sketch
    panels: Array
    gaussians: Gaussians


def screen_of(
    structure: Covariance, params: Params, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0
) -> Mixing | None:
    """A screened kernel where it is accurate and cheaper than the dense one, at so many active pairs and rows."""
    k, d = params.means.shape
    if structure.shared or k < LEAST_COMPONENTS or about_means(structure, params).any():
        return None
    dense, screened = dense_ns(structure, params, dtype), screened_ns(structure, k, d, pairs_per_row)
    if (
        _worth_a_look(structure, k, d, rows * dense)
        and not structure.isotropic
        and pairs_ns(structure, d, 1.0) < min(dense, screened)
    ):
        known = _remembered(params, ("bounds", type(structure)), lambda: _bounds(structure, params))
        if known is not None and sketched_ns(structure, k, d, known.sketch, pairs_per_row) < min(dense, screened):
            return SketchedKernel(structure, params, known)
    if screened >= dense:
        return None
    gaussians = _remembered(params, ("screened", type(structure)), lambda: _gaussians(structure, params))
    return None if gaussians is None else ScreenedKernel(structure, params, gaussians)


def _worth_a_look(structure: Covariance, k: int, d: int, pass_ns: float) -> bool:
    if by_variances(structure, d):
        return pass_ns >= CHOICE_NS + CHOICE_PAIR_NS * k**2 * d
    return pass_ns >= max(SKETCH_NS, SKETCH_ENTRY_NS * k * d**2)


def _remembered(params: Params, question: tuple[str, type], answer: Callable[[], Value]) -> Value:
    return cached_by_identity(params.means, params.precisions_cholesky, question, answer)


def dense_ns(structure: Covariance, params: Params, dtype: DTypeLike) -> float:
    """Nanoseconds a row of the dense kernel, as measured (bench/README.md); only the ratio to the other matters."""
    k, d = params.means.shape
    features = n_statistics(structure, d)
    if product_dtype(structure, params, dtype) == np.float32:
        return 4 * k * features / 68 + d + 2.0 * k
    return 4 * k * features / 34 + d + 4.0 * k


def screened_ns(structure: Covariance, k: int, d: int, pairs_per_row: float) -> float:
    """Nanoseconds a row of the screened kernel."""
    features = n_statistics(structure, d)
    return 2 * k * features / 66 + 3 * d + 2.0 * k + pairs_ns(structure, d, pairs_per_row)


def sketched_ns(structure: Covariance, k: int, d: int, sketch: Sketch, pairs_per_row: float) -> float:
    """Nanoseconds a row of the sketched kernel."""
    r = sketch.means.shape[1]
    features = n_statistics(sketch.structure, r)
    pairs = pairs_ns(structure, d, max(pairs_per_row, 1.0) + sketch.rivals)
    return 2 * k * features / 66 + 2 * d + 2.5 * k + sketch.directions.size / 10 + pairs


def pairs_ns(structure: Covariance, d: int, pairs_per_row: float) -> float:
    """Nanoseconds that the pairs of a row take."""
    return 1.2 * pairs_per_row * (8 + 1.3 * d if by_variances(structure, d) else 30 + 0.056 * d**2)


@lru_cache  # of shapes alone: a fit asks once more for what an earlier one has asked
def screen_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes that a screened kernel holds beyond those of a dense one: pairs, rows in float32, factors and moments."""
    matrices = 0 if by_variances(structure, d) else 8 * k * d * (2 * d + moment_columns(d))
    return buffers_bytes(k, d) + 4 * BLOCK_ROWS * (d + 2) + matrices


def _ordinary(constants: Array, d: int) -> float:
    """A best score that a row six standard deviations beyond the typical distance reaches under any component."""
    certain = -float(np.log(negligible(len(constants))))
    return float(constants.min()) - 0.5 * (d + 6.0 * np.sqrt(2.0 * d)) - certain


def _margin(
    structure: Covariance, means: Array, factors: Array, variances: Array, constants: Array, ordinary: float
) -> _Margin | None:
    """The screen by float32 scores, or None where scores err too much.

    A component within `width` of a best score s has a quadratic form q = 2(constant − s + width) at most. Such a row
    lies q/d times further out than a typical one, in the mean square, so the terms of its quadratic form are those of
    `conditioning` with r² = m² + Σ_ii·q/d.
    """
    k, d = means.shape
    certain = -float(np.log(negligible(k)))
    width, squared = certain, structure.squared_precisions(factors)
    for _ in range(2):  # the error widens the margin, and the margin the error: the second round is enough of that
        reach = np.maximum(1.0, 2.0 * (constants - ordinary + width) / d)
        size = np.sqrt(means**2 + variances * reach[:, None])
        terms = structure.term_norms(squared, size) + np.abs(constants)
        error = SAFETY * float(np.finfo(np.float32).eps) * float(terms.max())
        if not error <= MOST_ERROR:
            return None
        width = certain + 2.0 * error
    return _Margin(width, ordinary)


def _bounds(structure: Covariance, params: Params) -> _Bounds | None:
    """The cheapest sketch by which float32 tells components apart."""
    k, d = params.means.shape
    constants = log_constants(structure, params).copy()
    ordinary, width = _ordinary(constants, d), 1.0 - float(np.log(negligible(k)))
    most_rivals = screened_ns(structure, k, d, 1.0) / pairs_ns(structure, d, 1.0)
    found = sketches(params.means, params.covariances, constants, width, most_rivals)
    for sketch in sorted(found, key=lambda sketch: sketched_ns(structure, k, d, sketch, 1.0)):
        variances = sketch.structure.variances(sketch.covariances, *sketch.means.shape)
        margin = _margin(sketch.structure, sketch.means, sketch.factors, variances, constants, ordinary)
        if margin is not None:
            panels = panels_of(sketch.natural_parameters(constants), np.float32)
            own = own_factors(structure, params)
            return _Bounds(sketch, panels, Gaussians(params.means.copy(), own, constants, *margin, np.zeros((k, d))))
    return None


def _gaussians(structure: Covariance, params: Params) -> Gaussians | None:
    (k, d), factors = params.means.shape, params.precisions_cholesky
    constants = log_constants(structure, params).copy()
    variances = structure.variances(params.covariances, k, d)
    margin = _margin(structure, params.means, factors, variances, constants, _ordinary(constants, d))
    if margin is None:
        return None
    return Gaussians(params.means.copy(), own_factors(structure, params), constants, *margin, np.zeros((k, d)))


class ScreenedKernel(Mixing):
    """Full, diagonal and spherical Gaussians over active pairs; statistics about the anchor, like those by products."""

    path = "float64 pairs, screened in float32"

    def __init__(self, structure: Covariance, params: Params, gaussians: Gaussians) -> None:
        k, d = params.means.shape
        self._structure, self._d, self._gaussians = structure, d, gaussians
        self.rounding = difference_rounding(structure, params)
        self._params = params
        self._features, self._center, self._scale = (
            features_of(structure, params.means.shape[1]),
            params.center,
            params.scale,
        )
        columns = (moment_columns(d),) if gaussians.factors.ndim == 3 else ()
        self._sums, self._moments = np.zeros((k, 1 + d)), np.zeros((k, d, *columns))

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d) where they matter, and their statistics."""
        k, occupied = len(log_weights), np.zeros(len(log_weights))
        log_likelihood, pairs = kernels.screened_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            # A component without weight has no pairs; a finite number keeps infinities out of the scores.
            np.maximum(log_weights, np.finfo(np.float32).min),
            products_of(
                natural_panels(self._structure, self._params, np.float32),
                self._features,
                self._center,
                self._scale,
                BLOCK_ROWS,
            ),
            self._gaussians,
            pair_buffers(k, self._d),
            self._sums,
            self._moments,
            occupied,
            negligible(k),
        )
        return MixtureSums(log_likelihood, pairs, occupied)

    def restart(self) -> None:
        """Begin anew."""
        self._sums, self._moments = np.zeros_like(self._sums), np.zeros_like(self._moments)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M)."""
        if self._moments.ndim == 3:
            return as_stats(self._sums, pack(self._moments[:, :, : self._d]), self._d)
        spherical = self._structure.n_moments(self._d) < self._d
        moments = self._moments.sum(axis=1, keepdims=True) if spherical else self._moments
        return as_stats(self._sums, moments, self._d)


class SketchedKernel(ScreenedKernel):
    """Full and diagonal Gaussians over active pairs, found below the best of a row by bounds from a few directions."""

    path = "float64 pairs, by bounds in float32"

    def __init__(self, structure: Covariance, params: Params, bounds: _Bounds) -> None:
        super().__init__(structure, params, bounds.gaussians)
        self._sketch, self._panels = bounds.sketch, bounds.panels

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d) where they matter, and their statistics."""
        k, occupied = len(log_weights), np.zeros(len(log_weights))
        sketch = self._sketch
        r = sketch.means.shape[1]
        log_likelihood, pairs = kernels.sketched_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            np.maximum(log_weights, np.finfo(np.float32).min),
            self._center.copy(),
            1.0 / self._scale,
            sketch.directions,
            sketch.chosen,
            products_of(self._panels, sketch.structure.features(r), np.zeros(r), np.ones(r), BLOCK_ROWS),
            self._gaussians,
            pair_buffers(k, self._d),
            self._sums,
            self._moments,
            occupied,
            negligible(k),
        )
        return MixtureSums(log_likelihood, pairs, occupied)
