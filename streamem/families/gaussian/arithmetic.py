"""Gaussian E-steps by products of features, and where they may serve: a function of the parameters, never of timing.

Products of features are fastest, but they cancel: a term of size |P|·|x̃|² rounds at eps times that. For components
whose bound exceeds `ROUNDING_LIMIT`, differences x − m are formed first (`gaussian_apart`). On float32 rows products
run in float32 as long as the bound stays below `ROUNDING_LIMIT_32`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.errors import NumericalError
from streamem.core.ports import MixtureSums
from streamem.core.stats import Stats
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import pack
from streamem.families.gaussian.rounding import product_rounding, product_roundings
from streamem.kernels.features.exponential import NO_WEIGHTS, ExponentialKernel
from streamem.kernels.features.features import Features, as_rows, linear_features
from streamem.kernels.tiling import panels_of
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

ROUNDING_LIMIT = 1e-8
"""Largest bound on the rounding error of a log-density, in nats, at which the feature products are used."""

ROUNDING_LIMIT_32 = 1e-3
"""The same for products in float32, whose rows are rounded to 6e-8 of themselves already."""


@lru_cache
def n_statistics(structure: Covariance, d: int) -> int:
    """F = 1 + d + M."""
    return 1 + d + structure.n_moments(d)


def about_means(structure: Covariance, params: Params) -> Array:
    """Components (K,) for which products round too much: their moments are taken about their own means.

    Of components with one covariance, all or none.
    """
    return cached_by_identity(
        params.means,
        params.precisions_cholesky,
        ("about means", type(structure)),
        lambda: _about_means(structure, params),
    )


def _about_means(structure: Covariance, params: Params) -> Array:
    tight = product_roundings(structure, params) > ROUNDING_LIMIT
    return np.broadcast_to(tight.any(), tight.shape) if structure.shared else tight


def origins(structure: Covariance, params: Params) -> Array:
    """About what the moments of each component are taken at these parameters (K, d), anchored."""
    return np.where(about_means(structure, params)[:, None], params.means, 0.0)


def product_dtype(structure: Covariance, params: Params, dtype: DTypeLike) -> np.dtype[Any]:
    """In which precision products of all components may run on rows of `dtype`."""
    narrow = np.dtype(dtype) == np.float32
    return np.dtype(
        np.float32 if narrow and product_rounding(structure, params, np.float32) <= ROUNDING_LIMIT_32 else np.float64
    )


@lru_cache  # asked for dozens of times a fit
def by_variances(structure: Covariance, d: int) -> bool:
    """Whether pairs of row and component take variances (K, d) instead of matrices."""
    return structure.n_moments(d) <= d and not structure.shared


def own_factors(structure: Covariance, params: Params) -> Array:
    """Precision factors for compiled code: transposed (K, d, d), or (1, d, d) for all; diagonal ones (K, d)."""
    (k, d), factors = params.means.shape, params.precisions_cholesky
    if structure.shared:
        return np.ascontiguousarray(factors.T[None])
    if not by_variances(structure, d):
        return np.ascontiguousarray(np.swapaxes(factors, 1, 2))
    return np.repeat(factors.reshape(k, -1), d // factors.reshape(k, -1).shape[1], axis=1)


def log_constants(structure: Covariance, params: Params) -> Array:
    """½ log|P| − d/2 log 2π − log of the anchor's volume: (K,)."""
    k, d = params.means.shape
    constant = structure.log_det(params.precisions_cholesky, d) - 0.5 * d * np.log(2 * np.pi)
    return np.broadcast_to(np.asarray(constant - np.log(params.scale).sum()), (k,))


def natural_parameters(structure: Covariance, params: Params, distances: bool = False) -> Array:
    """Coefficients (K, F) of the features in the log-density, or in −½ of the squared distance."""
    return np.hstack([_linear(structure, params, distances), structure.quadratic(params.precisions_cholesky)])


def natural_panels(structure: Covariance, params: Params, dtype: DTypeLike, distances: bool = False) -> Array:
    """Natural parameters, cut into panels for products in `dtype`."""
    return cached_by_identity(
        params.means,
        params.precisions_cholesky,
        ("natural panels", type(structure), np.dtype(dtype), distances),
        lambda: panels_of(natural_parameters(structure, params, distances), dtype),
    )


@lru_cache(maxsize=32)
def features_of(structure: Covariance, d: int) -> Features:
    """The features of a row of so many values."""
    return structure.features(d)


def _linear(structure: Covariance, params: Params, distances: bool) -> Array:
    """Natural parameters of [1, x̃]: (K, 1 + d)."""
    slopes = structure.precision_times(params.precisions_cholesky, params.means)
    constant = (0.0 if distances else log_constants(structure, params)) - 0.5 * np.einsum(
        "kd,kd->k", slopes, params.means
    )
    return np.column_stack([constant, slopes])


def as_stats(sums: Array, moments: Array, d: int) -> Stats:
    """Sums of [1, x̃] (K, 1 + d), and second moments, by their names.

    Raises
    ------
    NumericalError : they are not finite: a log-density may be finite whose squares are not
    """
    if not (np.isfinite(sums).all() and np.isfinite(moments).all()):
        raise NumericalError(
            "the data holds values whose squares, or sums of them, overflow: rescale the data, or remove them"
        )
    return Stats(weight=sums[:, 0], first=sums[:, 1 : 1 + d], second=moments)


class GaussianKernel(ExponentialKernel):
    """Full, diagonal and spherical Gaussians by feature products; with `distances`, −½δ in place of log-densities."""

    def __init__(self, structure: Covariance, params: Params, dtype: DTypeLike, distances: bool = False) -> None:
        self._d = params.means.shape[1]
        rounding = product_rounding(structure, params, dtype)
        panels = natural_panels(structure, params, dtype, distances)
        super().__init__(panels, features_of(structure, self._d), params.center, params.scale, rounding)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M)."""
        sums = self.sums()
        return as_stats(sums, sums[:, 1 + self._d :], self._d)


class TiedKernel(ExponentialKernel):
    """A tied Gaussian: the quadratic term is common to all components, so the features are 1 and x̃ alone.

    Responsibilities do not need it. Second moments M = Σ w x̃ x̃ᵀ of all rows are one matrix, not K, and give the rest of
    the log-likelihood of many rows, −½ Σ P∘M. With `distances`, −½δ stands in place of log-densities.
    """

    def __init__(self, structure: Covariance, params: Params, dtype: DTypeLike, distances: bool = False) -> None:
        self._d = params.means.shape[1]
        panels = cached_by_identity(
            params.means,
            params.precisions_cholesky,
            ("linear panels", np.dtype(dtype), distances),
            lambda: panels_of(_linear(structure, params, distances), dtype),
        )
        rounding = product_rounding(structure, params, dtype)
        super().__init__(panels, linear_features(self._d), params.center, params.scale, rounding)
        self.whitening = np.ascontiguousarray(params.precisions_cholesky.T, dtype=self.dtype)
        self._precision = params.precisions_cholesky @ params.precisions_cholesky.T
        self.moments = np.zeros((self._d, self._d))

    def log_prob(self, out: Array) -> None:
        """out (K, b) = linear part + the common quadratic term."""
        super().log_prob(out)
        out += self._shared_quadratic()

    def accumulate(self, resp: Array) -> None:
        """Linear sums by component, second moments once."""
        super().accumulate(resp)
        xt = self._block.xt
        self.moments += (xt * resp.sum(axis=0).astype(self.dtype)) @ xt.T

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """The E-step by the linear terms; the sum of the common one is added to the log-likelihood."""
        sums, moments = super().mix(x, weight, log_weights), self._moments_of(x, weight)
        self.moments += moments
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is an error where the sums arrive
            common = -0.5 * float(np.sum(self._precision * moments))
        return sums._replace(log_likelihood=sums.log_likelihood + common)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows, with the term that all components share."""
        super().densities(x, b, peaks)
        for start in range(0, len(x), self._rows):
            self.load(x[start : start + self._rows])
            peaks[start : start + self._rows] += self._shared_quadratic()

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add statistics of rows, and second moments of all rows."""
        super().accumulate_rows(x, weights, again)
        self.moments += self._moments_of(x, weights[:, : self._sums.shape[2]].sum(axis=1))

    def restart(self) -> None:
        """Begin anew."""
        super().restart()
        self.moments = np.zeros_like(self.moments)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (M,)."""
        return as_stats(self.sums(), pack(self.moments), self._d)

    def _shared_quadratic(self) -> Array:
        """−½ x̃ᵀPx̃ of the loaded rows (b,)."""
        whitened = self.whitening @ self._block.xt
        quadratic = np.einsum("db,db->b", whitened, whitened)
        quadratic *= -0.5
        return quadratic

    def _moments_of(self, x: Array, weight: Array | None) -> Array:
        """Σ w x̃ x̃ᵀ of all rows x (n, d)."""
        moments, products = np.zeros_like(self.moments), self.workplace.products
        kernels.add_moments(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            products.center,
            products.unscale,
            thread_buffer("tied rows", (2, self._d * self._rows), self.dtype),
            thread_buffer("tied product", (self._d, self._d), self.dtype),
            moments,
        )
        return moments
