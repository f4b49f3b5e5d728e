"""Gaussians about a mean that is linear in values known before: what autoregressions and regressions share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.numerics import EPS
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.empty_components import empty_components, told_empty
from streamem.families.far_rows import Residuals, anchored_far, far_log_prob, far_order
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.rounding import SAFETY
from streamem.kernels.features.residual_kernel import TILE, ResidualKernel
from streamem.kernels.tiling import products_bytes

Array = NDArray[Any]

FULL = COVARIANCES["full"]


class ResidualGaussian(FullFamily):
    """y = c_k + A_k z + ε with ε ~ N(0, Σ_k), of d variables y given what is known before, z.

    Parameters are in a frame that a subclass tells: regression (K, d, 1 + width of z) is [c, A], noise and its
    precision factor (K, d, d), center and scale (d,) of y, empty and floored (K,). Statistics are second moments of
    [1, row], so the M-step is weighted least squares.
    """

    reg_covar: float
    """Added to the diagonal of every Σ_k, in squared units of the data."""

    @abstractmethod
    def _anchor(self, params: Params) -> tuple[Array, Array]:
        """Centers and scales of all columns of a row."""

    @abstractmethod
    def _dimension(self, n_features: int) -> int:
        """d of rows with so many features."""

    def _anchor_of(self, params: Params) -> dict[str, Array]:
        """The parameters that tell the frame."""
        return {"center": params.center, "scale": params.scale}

    def _in_columns(self, whitened: Array) -> Array:
        """W of [1, y, z] (K, d, 1 + D) as that of [1, row]."""
        return whitened

    def _moments(self, stats: Stats) -> Array:
        """Second moments (K, 1 + D, 1 + D) of [1, y, z]."""
        return np.asarray(stats.moments)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of y given what is known before, for rows x (n, D), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params.noise), len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Second moments of [1, row] about the anchor of `params`, weighted by resp (n, K)."""
        self._dimension(x.shape[1])
        kernel, step = self.kernel(params), self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.accumulate(np.ascontiguousarray(resp[first : first + step].T))
        return kernel.stats()

    @np.errstate(over="ignore", invalid="ignore")  # a covariance that is not finite is an error
    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Weighted least squares of y on [1, z], and the mean square of what remains."""
        empty = empty_components(stats.moments[:, 0, 0])
        moments, d = _means(self._moments(stats), empty), len(previous.center)
        regression = _least_squares(moments, d).coefficients
        residual = residual_of(regression)
        # As a square: errors of the regression enter it in second order.
        noise = residual @ moments @ np.swapaxes(residual, 1, 2)
        noise = (noise + np.swapaxes(noise, 1, 2)) / 2 + np.diag(self.reg_covar / previous.scale**2)
        regression[empty], noise[empty] = previous.regression[empty], previous.noise[empty]
        return self._assemble(previous, regression, noise, empty, _squares(residual, moments))

    # --- capabilities ------------------------------------------------------------------------------------------------

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Whitened residuals, in float64 whatever the rows."""
        return ResidualKernel(self._in_columns(whitened_residuals(params)), _constants(params), *self._anchor(params))

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows whose squares may overflow, in nats; −∞ below what float64 holds."""
        return far_log_prob(self._residuals(params, x))

    def far_order(self, params: Params, x: Array) -> Array:
        """Numbers (n, K) that order components where all of these are −∞."""
        return far_order(self._residuals(params, x))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        d = max(1, self._dimension(n_features))
        features = (1 + n_features) * (2 + n_features) // 2
        residuals = 8 * n_components * d * (TILE + 1 + n_features)
        return residuals + products_bytes(n_components, n_features, features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Second moments of [1, row] in float64."""
        return 8 * n_components * (1 + n_features) ** 2

    def penalty(self, params: Params, stats: Stats) -> float:
        """½·reg_covar·Σ_k n_k tr Σ_k⁻¹, in nats: what the M-step subtracts from the expected log-likelihood."""
        return float(self._penalties(params, stats).sum())

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Bound on how far `maximize` may have missed its maximum, in nats.

        As for `Gaussian`, with the terms of residuals for mean squares; and directions in which what is known
        before hardly varies: without a coefficient, or with one that rounds, the noise is larger than it could be.
        """
        weight = stats.moments[:, 0, 0]
        empty, d = empty_components(weight), len(old.center)
        moments = _means(self._moments(stats), empty)
        sizes = [_squares(residual_of(params.regression), moments) for params in (old, new)]
        size = FULL.size(new.noise, sizes[1], 0.0)
        missed = 0.5 * weight * SAFETY**2 * FULL.lost(_diagonal(new), size, EPS)
        found = _least_squares(moments, d)
        blurred = 0.5 * weight * (SAFETY * EPS) ** 2 * found.spread * (_diagonal(new) * sizes[1]).sum(axis=1)
        raised = new.floored & (FULL.least(size) > FLOOR).any(axis=1)
        compared = (raised | found.partial) & ~empty
        rounding = (
            0.5 * SAFETY * EPS * sum((_diagonal(p) * s).sum(axis=1) for p, s in zip((old, new), sizes, strict=True))
        )
        fall = self._objective(old, stats) - self._objective(new, stats) + weight * rounding
        return float((missed + blurred + np.where(compared, np.maximum(fall, 0.0), 0.0)).sum())

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Second moments of [1, row] that are positive definite."""
        moments, least = valid.moments, valid.moments / MOST_FALL
        empty = ~(moments[:, 0, 0] > 0)

        def possible(found: Stats) -> NDArray[np.bool_]:
            return empty | FULL.exceeds(found.moments, least)

        return shrunk(stats, valid, (stats.moments[:, 0, 0], moments[:, 0, 0]), possible)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components to which a policy was applied in the last M-step."""
        return {**told_empty(params), "floored": np.flatnonzero(params.floored).tolist()}

    def free_parameters(self, params: Params) -> int:
        """Intercepts, coefficients, and covariance matrices."""
        k, d, width = params.regression.shape
        return k * (d * width + d * (d + 1) // 2)

    estimates, overflows = "a covariance", "whose squares overflow"

    def covariances(self, params: Params) -> Array:
        """Σ (K, d, d)."""
        return FULL.scaled(params.noise, params.scale)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _residuals(self, params: Params, x: Array) -> Residuals:
        rows, exponents = anchored_far(x.astype(np.float64), *self._anchor(params))
        whitened = self._in_columns(whitened_residuals(params))
        return Residuals(exponents, lambda k: whitened[k, :, 1:] @ rows.T, whitened[:, :, 0], _constants(params))

    def _penalties(self, params: Params, stats: Stats) -> Array:
        return np.asarray(0.5 * stats.moments[:, 0, 0] * (_diagonal(params) @ (self.reg_covar / params.scale**2)))

    def _objective(self, params: Params, stats: Stats) -> Array:
        """What the M-step maximizes of every component (K,), up to a constant."""
        whitening = np.swapaxes(params.noise_precision_cholesky, 1, 2) @ residual_of(params.regression)
        squares = np.einsum("kij,kjl,kil->k", whitening, self._moments(stats), whitening)
        log_det = FULL.log_det(params.noise_precision_cholesky, len(params.center))
        return np.asarray(stats.moments[:, 0, 0] * log_det - 0.5 * squares - self._penalties(params, stats))

    def _assemble(
        self, anchor: Params, regression: Array, noise: Array, empty: Array, squares: Array | float = 0.0
    ) -> Params:
        noise, floored, factors = FULL.floor_and_factor(noise, FULL.least(FULL.size(noise, squares, 0.0)))
        return Params(
            regression=regression,
            noise=noise,
            noise_precision_cholesky=factors,
            **self._anchor_of(anchor),
            empty=empty,
            floored=floored,
        )


def whitened_residuals(params: Params) -> Array:
    """W (K, d, 1 + D): W_k·[1, anchored y, anchored z] is a residual of variance 1."""
    return np.asarray(np.swapaxes(params.noise_precision_cholesky, 1, 2) @ residual_of(params.regression))


def _constants(params: Params) -> Array:
    """Log-density of a residual of 0 (K,), in nats."""
    d = len(params.center)
    log_det = FULL.log_det(params.noise_precision_cholesky, d)
    return np.asarray(log_det - 0.5 * d * np.log(2 * np.pi) - np.log(params.scale).sum())


def residual_of(regression: Array) -> Array:
    """[−c, I, −A] (K, d, 1 + D): what makes residuals of [1, y, z]."""
    k, d, _ = regression.shape
    identity = np.broadcast_to(np.eye(d), (k, d, d))
    return np.concatenate([-regression[:, :, :1], identity, -regression[:, :, 1:]], axis=2)


def _squares(residual: Array, moments: Array) -> Array:
    """Mean squares (K, d) of the sum of the terms of which residuals are differences."""
    typical = np.sqrt(np.einsum("kii->ki", moments))
    return np.asarray((np.abs(residual) @ typical[:, :, None])[:, :, 0] ** 2)


def _diagonal(params: Params) -> Array:
    """Diagonal of the precision of the noise (K, d)."""
    return FULL.precision_diagonal(params.noise_precision_cholesky, len(params.center))


def _means(moments: Array, empty: Array) -> Array:
    """Moments of [1, row] per unit of weight; of components without rows, those of white noise."""
    means = moments / np.where(empty, 1.0, moments[:, 0, 0])[:, None, None]
    means[empty] = np.eye(moments.shape[1])
    return np.asarray(means)


class _LeastSquares(NamedTuple):
    """Least squares of y on what is known before.

    Attributes
    ----------
    coefficients : (K, d, 1 + width of z)
    spread : (K,) tr of the inverse moments of what is known before, each of unit size
    partial : (K,) whether directions were left out for want of digits
    """

    coefficients: Array
    spread: Array
    partial: Array


def _least_squares(moments: Array, d: int) -> _LeastSquares:
    """Least squares from moments (K, D + 1, D + 1) of [1, y, z], without directions that hold no digits."""
    known = np.r_[0, 1 + d : moments.shape[1]]
    before = moments[:, known[:, None], known]
    # Powers of two: ordinary data have 1, and those of an outlier do not hide the other columns.
    typical = np.einsum("kii->ki", before)
    unit = np.exp2(-np.round(np.log2(np.where(typical > 0, typical, 1.0)) / 2))
    values, vectors = np.linalg.eigh(before * unit[:, :, None] * unit[:, None, :])
    told = values > 8 * EPS * values.shape[1] * values[:, -1:]
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=told)
    # One factor after the other: the entries of an inverse round to eps of its largest.
    crossed = (moments[:, 1 : 1 + d, known] * unit[:, None, :]) @ vectors
    coefficients = (crossed * inverse[:, None, :]) @ np.swapaxes(vectors, 1, 2) * unit[:, None, :]
    return _LeastSquares(coefficients, inverse.sum(axis=1), ~told.all(axis=1))
