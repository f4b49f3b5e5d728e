"""Gaussians whose mean depends on the steps before: vector autoregression, one for every component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DataError, ParameterError
from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.faults import flags, missing, shaped
from streamem.core.free_form import FreeForm
from streamem.core.numerics import EPS
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.anchor import location_and_spread
from streamem.families.covariance_floor import FLOOR
from streamem.families.empty_components import empty_components, told_empty
from streamem.families.far_rows import Residuals, anchored_far, far_log_prob, far_order
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.faults import anchor_faults, matrix_faults
from streamem.families.gaussian.rounding import SAFETY
from streamem.kernels.features.residual_kernel import TILE, ResidualKernel
from streamem.kernels.tiling import block_rows, products_bytes

Array = NDArray[Any]

FULL = COVARIANCES["full"]


class AutoregressiveGaussian(FullFamily):
    """y_t = c_k + Σ_l A_kl y_{t−l} + ε with ε ~ N(0, Σ_k): Markov-switching vector autoregression (Hamilton 1994, §22).

    Parameters
    ----------
    lag : int >= 1
        p, how many earlier steps matter. Rows are [y_t, y_{t−1}, …, y_{t−p}], d·(p + 1) values: open data with this
        lag. The first p steps of a sequence have no row.
    reg_covar : float >= 0
        Added to the diagonal of every Σ_k, in squared units of the data, as `Gaussian` does.

    Notes
    -----
    Parameters, in the frame ỹ = (y − center) / scale: regression (K, d, 1 + d·p) is [c, A_1, …, A_p]; noise and its
    precision factor (K, d, d); center and scale (d,); empty and floored (K,). In units of the data they are
    `intercepts`, `coefficients` and `covariances`, and `with_parameters` sets them.

    Statistics are second moments of [1, row] in that frame, so the M-step is weighted least squares. Directions in
    which the earlier steps do not vary get no coefficient; an eigenvalue of Σ_k below 2⁻⁴⁰ of the data's variance is
    raised to it; a component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import AutoregressiveGaussian
    >>> y, rng = np.zeros(2000), np.random.default_rng(0)
    >>> for t in range(1, 2000): y[t] = 1 + 0.5 * y[t - 1] + rng.normal()
    >>> family = AutoregressiveGaussian(lag=1)
    >>> mix = Mixture(family, 1).fit(np.column_stack([y[1:], y[:-1]]))
    >>> family.coefficients(mix.params_).round(1).ravel(), family.intercepts(mix.params_).round(0).ravel()
    (array([0.5]), array([1.]))
    """

    def __init__(self, lag: int = 1, reg_covar: float = 0.0) -> None:
        if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or lag < 1:
            raise ParameterError(f"lag is {lag!r}; it must be an integer >= 1")
        if not reg_covar >= 0:
            raise ParameterError(f"reg_covar is {reg_covar}; it must be a number >= 0")
        self.lag = int(lag)
        self.reg_covar = float(reg_covar)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of y_t given the earlier steps, for rows x (n, d·(p + 1)), in nats."""
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
        """Weighted least squares of y_t on [1, y_{t−1}, …, y_{t−p}], and the mean square of what remains."""
        empty = empty_components(stats.moments[:, 0, 0])
        moments, d = _means(stats.moments, empty), len(previous.center)
        regression = _regression(moments, d).coefficients
        residual = _residual(regression)
        # As a square: errors of the regression enter it in second order.
        noise = residual @ moments @ np.swapaxes(residual, 1, 2)
        noise = (noise + np.swapaxes(noise, 1, 2)) / 2 + np.diag(self.reg_covar / previous.scale**2)
        regression[empty], noise[empty] = previous.regression[empty], previous.noise[empty]
        return self._assemble(previous, regression, noise, empty, _squares(residual, moments))

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The anchor from a sample of rows, and white noise about it for every component."""
        d = self._dimension(x.shape[1])
        center, deviation = location_and_spread(x[:, :d], weight)
        deviation = np.maximum(deviation, np.sqrt(self.reg_covar))
        deviation[deviation == 0] = 1.0
        return self.at_anchor(center, np.exp2(np.round(np.log2(deviation))), n_components)

    def at_anchor(self, center: Array, scale: Array, n_components: int) -> Params:
        """White noise at a given anchor (d,), (d,); scales are powers of two."""
        d = len(center)
        regression = np.zeros((n_components, d, 1 + d * self.lag))
        noise = np.repeat(np.eye(d)[None], n_components, axis=0)
        empty = np.zeros(n_components, dtype=np.bool_)
        return self._assemble(Params(center=center, scale=scale), regression, noise, empty)

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(len(params.regression), len(params.center) * (1 + self.lag))

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Whitened residuals, in float64 whatever the rows."""
        return ResidualKernel(_whitened(params), _constants(params), *self._anchor(params))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        names = ("regression", "noise", "noise_precision_cholesky", "center", "scale", "empty", "floored")
        if found := missing(params, names):
            return found
        k, d = n_components, n_features // (1 + self.lag)
        found = shaped("regression", params.regression, (k, d, 1 + d * self.lag)) + anchor_faults(params, d)
        found += flags("empty", params.empty, (k,)) + flags("floored", params.floored, (k,))
        factors = params.noise_precision_cholesky
        return found or matrix_faults("noise", params.noise, "noise_precision_cholesky", factors, (k, d, d), 0.0)

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows whose squares may overflow, in nats; −∞ below what float64 holds."""
        return far_log_prob(self._residuals(params, x))

    def far_order(self, params: Params, x: Array) -> Array:
        """Numbers (n, K) that order components where all of these are −∞."""
        return far_order(self._residuals(params, x))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        d = max(1, n_features // (1 + self.lag))
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

        As for `Gaussian`, with the terms of residuals for mean squares; and directions in which the earlier steps
        hardly vary: without a coefficient, or with one that rounds, the noise is larger than it could be.
        """
        weight = stats.moments[:, 0, 0]
        empty, d = empty_components(weight), len(old.center)
        moments = _means(stats.moments, empty)
        sizes = [_squares(_residual(params.regression), moments) for params in (old, new)]
        size = FULL.size(new.noise, sizes[1], 0.0)
        missed = 0.5 * weight * SAFETY**2 * FULL.lost(_diagonal(new), size, EPS)
        found = _regression(moments, d)
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

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Intercepts (K, d), coefficients (K, p, d, d) and covariances (K, d, d), in units of the data."""
        values = {
            "intercepts": self.intercepts(params),
            "coefficients": self.coefficients(params),
            "covariances": self.covariances(params),
        }
        return FreeForm(values, symmetric=frozenset({"covariances"}))

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, about the same anchor."""
        return self.with_parameters(params, values["intercepts"], values["coefficients"], values["covariances"])

    def free_parameters(self, params: Params) -> int:
        """Intercepts, coefficients, and covariance matrices."""
        k, d, width = params.regression.shape
        return k * (d * width + d * (d + 1) // 2)

    estimates, overflows = "a covariance", "whose squares overflow"

    # --- the data's own units ----------------------------------------------------------------------------------------

    def intercepts(self, params: Params) -> Array:
        """c (K, d)."""
        moved = np.einsum("kpij,j->ki", self.coefficients(params), params.center)
        return params.center + params.scale * params.regression[:, :, 0] - moved

    def coefficients(self, params: Params) -> Array:
        """A (K, p, d, d), of which [k, l − 1, i, j] says how y_t[i] depends on y_{t−l}[j]."""
        (k, d, _), ratio = params.regression.shape, params.scale[:, None] / params.scale
        return ratio * params.regression[:, :, 1:].reshape(k, d, self.lag, d).transpose(0, 2, 1, 3)

    def covariances(self, params: Params) -> Array:
        """Σ (K, d, d)."""
        return FULL.scaled(params.noise, params.scale)

    def with_parameters(self, params: Params, intercepts: Array, coefficients: Array, covariances: Array) -> Params:
        """The anchor of `params` with other components (K, d), (K, p, d, d), (K, d, d), in units of the data.

        Raises
        ------
        ParameterError : shapes that do not belong together
        """
        c, a, s = (np.asarray(value, dtype=np.float64) for value in (intercepts, coefficients, covariances))
        (k, d), p = c.shape, self.lag
        if len(params.center) != d or a.shape != (k, p, d, d) or s.shape != (k, d, d):
            raise ParameterError(
                f"intercepts {c.shape}, coefficients {a.shape} and covariances {s.shape} do not belong together; for "
                f"{len(params.center)} variables and lag {p} they are (K, d), (K, {p}, d, d) and (K, d, d)"
            )
        first = (c + np.einsum("kpij,j->ki", a, params.center) - params.center) / params.scale
        anchored = (a * (params.scale / params.scale[:, None])).transpose(0, 2, 1, 3).reshape(k, d, p * d)
        regression = np.concatenate([first[:, :, None], anchored], axis=2)
        return self._assemble(params, regression, FULL.scaled(s, 1.0 / params.scale), np.zeros(k, dtype=np.bool_))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _anchor(self, params: Params) -> tuple[Array, Array]:
        """Centers and scales (d·(p + 1),) of a whole row with its lags."""
        return np.tile(params.center, 1 + self.lag), np.tile(params.scale, 1 + self.lag)

    def _residuals(self, params: Params, x: Array) -> Residuals:
        rows, exponents = anchored_far(x.astype(np.float64), *self._anchor(params))
        whitened = _whitened(params)
        return Residuals(exponents, lambda k: whitened[k, :, 1:] @ rows.T, whitened[:, :, 0], _constants(params))

    def _dimension(self, n_features: int) -> int:
        """d of rows with so many features."""
        if n_features % (1 + self.lag):
            raise DataError(
                f"rows have {n_features} features; with lag={self.lag} they are [y_t, y_(t-1), …], a multiple of "
                f"{1 + self.lag}: open the data with lag={self.lag}"
            )
        return n_features // (1 + self.lag)

    def _penalties(self, params: Params, stats: Stats) -> Array:
        return np.asarray(0.5 * stats.moments[:, 0, 0] * (_diagonal(params) @ (self.reg_covar / params.scale**2)))

    def _objective(self, params: Params, stats: Stats) -> Array:
        """What the M-step maximizes of every component (K,), up to a constant."""
        whitening = np.swapaxes(params.noise_precision_cholesky, 1, 2) @ _residual(params.regression)
        squares = np.einsum("kij,kjl,kil->k", whitening, stats.moments, whitening)
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
            center=anchor.center,
            scale=anchor.scale,
            empty=empty,
            floored=floored,
        )


def _whitened(params: Params) -> Array:
    """W (K, d, 1 + d·(p + 1)): W_k·[1, anchored row] is a residual of variance 1."""
    return np.asarray(np.swapaxes(params.noise_precision_cholesky, 1, 2) @ _residual(params.regression))


def _constants(params: Params) -> Array:
    """Log-density of a residual of 0 (K,), in nats."""
    d = len(params.center)
    log_det = FULL.log_det(params.noise_precision_cholesky, d)
    return np.asarray(log_det - 0.5 * d * np.log(2 * np.pi) - np.log(params.scale).sum())


def _residual(regression: Array) -> Array:
    """[−c, I, −A] (K, d, 1 + d·(p + 1)): what makes residuals of [1, y_t, y_{t−1}, …]."""
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


class _Regression(NamedTuple):
    """Least squares of y on what came before.

    Attributes
    ----------
    coefficients : (K, d, 1 + d·p)
    spread : (K,) tr of the inverse moments of what came before, each of unit size
    partial : (K,) whether directions were left out for want of digits
    """

    coefficients: Array
    spread: Array
    partial: Array


def _regression(moments: Array, d: int) -> _Regression:
    """Least squares from moments (K, D + 1, D + 1) of [1, y, earlier steps], without directions that hold no digits."""
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
    return _Regression(coefficients, inverse.sum(axis=1), ~told.all(axis=1))
