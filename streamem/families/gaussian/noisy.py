"""Gaussians that are seen through noise of known covariance, another in every row: extreme deconvolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.ports import FullFamily, Kernel, Mixing, PlainKernel
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import as_stats, origins
from streamem.families.gaussian.covariance_matrix import pack, unpack
from streamem.families.gaussian.distribution import Gaussian
from streamem.families.gaussian.rounding import SAFETY, difference_rounding

Array = NDArray[Any]

VARIANCES, COVARIANCES = "variances", "covariances"
"""What rows hold behind their values: (d,) variances, or the upper triangle of a covariance, row by row."""

HIDDEN = -1.0
"""A variance that stands for an infinite one: the value beside it was not observed."""

BLOCK_NUMBERS = 2**15
"""Of the matrices of a block of rows under one component."""


class Seen(NamedTuple):
    """Rows of a block in the anchored frame.

    Attributes
    ----------
    x : (b, d), 0 where nothing was observed
    noise : (b, d, d) covariances of the noise, 0 where nothing was observed
    observed : (b, d) bool
    log_volume : (b,) log of the scales and of √2π of what was observed
    """

    x: Array
    noise: Array
    observed: NDArray[np.bool_]
    log_volume: Array


class Conditioned(NamedTuple):
    """What a component says of the rows of a block.

    Attributes
    ----------
    log_prob : (b,) of what was observed
    mean, covariance : (b, d), (b, d, d) of the value without noise, given what was observed
    """

    log_prob: Array
    mean: Array
    covariance: Array


class NoisyGaussian(Gaussian):
    """Gaussian components N(m_k, Σ_k) of values v, of which rows show v + ε with ε ~ N(0, S_i) and S_i known.

    Rows are [x, the noise]: variances (d,), or the upper triangle of S_i by rows (d·(d + 1)/2 numbers); a variance of
    −1 stands for an infinite one, of a value that was not observed, as NaN in x does. The E-step is that of Bovy, Hogg
    & Roweis (2011, eqs. 15 and 16): T = Σ_k + S_i, E[v] = m + Σ_k T⁻¹(x − m), cov[v] = Σ_k − Σ_k T⁻¹ Σ_k. Parameters,
    statistics and the M-step are those of `Gaussian`.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    noise : "variances" or "covariances"
    """

    def __init__(self, covariance_type: str = "full", reg_covar: float = 0.0, noise: str = VARIANCES) -> None:
        super().__init__(covariance_type, reg_covar)
        self.noise = noise

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, width), in nats: N(x; m_k, Σ_k + S_i) of what was observed."""
        out = np.empty((len(x), len(params.means)))
        for block in self._blocks(params, x):
            seen = self._seen(params, x[block])
            for k, (mean, covariance) in enumerate(self._components(params)):
                out[block, k] = _conditioned(seen, mean, covariance, moments=False).log_prob
        return out

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Expected weight (K,), first (K, d) and second moments, weighted by resp (n, K)."""
        k, d = params.means.shape
        resp = np.where(self._says_something(x)[:, None], resp, 0.0)
        sums, origin = np.zeros((k, 1 + d)), origins(self._structure, params)
        second = np.zeros((k, d, d))
        sums[:, 0] = resp.sum(axis=0)
        for block in self._blocks(params, x):
            seen = self._seen(params, x[block])
            for j, (mean, covariance) in enumerate(self._components(params)):
                found, weight = _conditioned(seen, mean, covariance, moments=True), resp[block, j]
                about = found.mean - origin[j]
                weighted = about * weight[:, None]
                sums[j, 1:] += weighted.sum(axis=0)
                second[j] += weighted.T @ about + np.tensordot(weight, found.covariance, axes=1)
        return as_stats(sums, self._kept(second), d)

    # --- capabilities ------------------------------------------------------------------------------------------------

    slopes = FullFamily.slopes
    few_log_prob = FullFamily.few_log_prob
    filled, drawn_for_missing = FullFamily.filled, FullFamily.drawn_for_missing

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """NaN (n, K): nobody judges rows whose squares overflow."""
        return np.full((len(x), len(params.means)), np.nan)

    def far_order(self, params: Params, x: Array) -> Array:
        """NaN (n, K)."""
        return self.far_log_prob(params, x)

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The anchor of the values that were observed."""
        return super().start(self.values(x), weight, n_components)

    def values(self, x: Array) -> Array:
        """The values (n, d) of rows, NaN where nothing was observed."""
        d = self.features(x.shape[1])
        hidden = ~(self._variances(x, d) >= 0)
        return np.where(hidden, np.nan, x[:, :d]) if hidden.any() else x[:, :d]

    def features(self, width: int) -> int:
        """d of rows of so many numbers."""
        if self.noise == VARIANCES:
            return width // 2
        return int((np.sqrt(9 + 8 * width) - 3) / 2 + 0.5)

    def row_width(self, features: int) -> int:
        """Numbers of a row of so many features."""
        return features + (features if self.noise == VARIANCES else features * (features + 1) // 2)

    @property
    def allows_missing(self) -> bool:
        """NaN is a value that was not observed, like one of infinite variance."""
        return True

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """NumPy's batches of small matrices, in float64."""
        kernel = PlainKernel(self, params)
        kernel.rounding = 4.0 * difference_rounding(self._structure, params) + SAFETY * EPS * params.means.shape[1]
        return kernel

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the kernel runs, in words."""
        return "float64 conditioning on rows with noise of their own"

    def screen(self, params: Params, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0) -> Mixing | None:
        """Every component is worked out."""
        return None

    def block_rows(self, params: Params) -> int:
        """Rows a block, whose matrices under one component lie in the cache."""
        return max(16, BLOCK_NUMBERS // params.means.shape[1] ** 2)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """A dozen matrices a row of a block."""
        d = self.features(n_features)
        rows = max(16, BLOCK_NUMBERS // d**2)
        return 8 * rows * (12 * d * d + 3 * n_components) + 2 * self.statistics_bytes(n_components, n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights, first and second moments in float64."""
        return super().statistics_bytes(n_components, self.features(n_features))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        return super().faults(params, n_components, self.features(n_features))

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, width) of values that a component emits, without noise."""
        values = super().draw(params, component, count, rng)
        return np.hstack([values, np.zeros((count, self.row_width(values.shape[1]) - values.shape[1]))])

    # --- inner -------------------------------------------------------------------------------------------------------

    def _components(self, params: Params) -> Iterator[tuple[Array, Array]]:
        """Mean (d,) and covariance (d, d) of every component, anchored."""
        d, covariances = params.means.shape[1], np.asarray(params.covariances)
        for j, mean in enumerate(np.asarray(params.means)):
            if self.covariance_type == "full":
                yield mean, covariances[j]
            elif self.covariance_type == "tied":
                yield mean, covariances
            else:
                yield mean, np.diag(np.broadcast_to(covariances[j], d))

    def _variances(self, x: Array, d: int) -> Array:
        """The variances (n, d) of the noise of rows."""
        if self.noise == VARIANCES:
            return x[:, d:]
        places = d + np.concatenate([[0], np.cumsum(np.arange(d, 1, -1))]).astype(np.intp)
        return x[:, places]

    def _says_something(self, x: Array) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.values(x)).all(axis=1))

    def _seen(self, params: Params, x: Array) -> Seen:
        d, scale = params.means.shape[1], np.asarray(params.scale)
        values = self.values(x).astype(np.float64)
        observed = ~np.isnan(values)
        noise = np.zeros((len(x), d, d))
        if self.noise == VARIANCES:
            noise[:, np.arange(d), np.arange(d)] = x[:, d:]
        else:
            noise = unpack(x[:, d:].astype(np.float64), d)
        both = observed[:, :, None] & observed[:, None, :]
        noise = np.where(both & ~np.isnan(noise), noise / scale[:, None] / scale, 0.0)
        anchored = np.where(observed, (values - params.center) / scale, 0.0)
        log_volume = observed @ (np.log(scale) + 0.5 * np.log(2.0 * np.pi))
        return Seen(anchored, noise, observed, log_volume)

    def _kept(self, second: Array) -> Array:
        """Second moments (K, d, d) in the shape of the covariance type."""
        if self.covariance_type == "full":
            return pack(second)
        if self.covariance_type == "tied":
            return np.asarray(pack(second).sum(axis=0))
        squares = np.einsum("kii->ki", second)
        return squares if self.covariance_type == "diag" else squares.sum(axis=1, keepdims=True)


def _conditioned(seen: Seen, mean: Array, covariance: Array, moments: bool) -> Conditioned:
    """What a component of mean (d,) and covariance (d, d) says of rows.

    With T = Σ + S of what was observed and 1 where nothing was, M = T⁻¹ and K = ΣM: the mean is x − S·M·(x − m) where
    it was observed, m + K·(x − m) elsewhere, and the covariance R·Σ·Rᵀ + K·S·Kᵀ with R = 1 − K, of which S·M are the
    rows that were observed: sums of squares, so that nothing cancels, be S large, small or 0 (Joseph & Bucy 1968).
    """
    d, observed = len(mean), seen.observed
    both = observed[:, :, None] & observed[:, None, :]
    total = np.where(both, covariance, 0.0) + seen.noise
    total[:, np.arange(d), np.arange(d)] += ~observed
    lower = np.linalg.cholesky(total)
    difference = np.where(observed, seen.x - mean, 0.0)
    whitened = np.linalg.solve(lower, difference[:, :, None])[:, :, 0]
    log_det = np.log(np.einsum("bii->bi", lower)).sum(axis=1)
    log_prob = -0.5 * np.einsum("bi,bi->b", whitened, whitened) - log_det - seen.log_volume
    if not moments:
        return Conditioned(log_prob, difference, total)
    inverse = np.linalg.solve(np.swapaxes(lower, 1, 2), np.linalg.solve(lower, np.broadcast_to(np.eye(d), total.shape)))
    gain = np.where(observed[:, None, :], covariance @ np.where(both, inverse, 0.0), 0.0)
    shrunk = seen.noise @ np.where(both, inverse, 0.0)
    rest = np.where(observed[:, :, None], shrunk, np.eye(d) - gain)
    turned = (inverse @ difference[:, :, None])[:, :, 0]
    there = seen.x - (seen.noise @ turned[:, :, None])[:, :, 0]
    elsewhere = mean + (gain @ difference[:, :, None])[:, :, 0]
    spread = rest @ covariance @ np.swapaxes(rest, 1, 2) + gain @ seen.noise @ np.swapaxes(gain, 1, 2)
    return Conditioned(log_prob, np.where(observed, there, elsewhere), spread)
