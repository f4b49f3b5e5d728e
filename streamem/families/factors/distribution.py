"""Gaussians whose covariance is a few factors and noise: factor analysis, probabilistic principal components."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.faults import flags, missing, shaped, within
from streamem.core.free_form import FreeForm
from streamem.core.ports import Family, FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.anchor import location_and_spread
from streamem.families.empty_components import empty_components
from streamem.families.factors.arithmetic import FactorKernel, block_rows_of, kernel_bytes
from streamem.families.factors.incomplete import IncompleteFactorKernel, incomplete_block_rows, incomplete_bytes
from streamem.families.factors.m_step import FLOOR, estimated, missed, possible_statistics
from streamem.families.factors.posterior import noise_of, posterior_of
from streamem.families.factors.rotation import in_triangle, triangle
from streamem.families.factors.start import begun
from streamem.families.far_rows import Residuals, anchored_far, far_log_prob, far_order
from streamem.families.gaussian.faults import anchor_faults

Array = NDArray[Any]

LEAST_SPREAD = 2.0**-480
"""Of a column: its square, times the smallest share that noise can have, and the inverse of that, are float64."""

FAR = 16.0
"""An anchor that is so many spreads away from the components, or so much smaller than their spread, is given up."""

NOISES = ("diagonal", "isotropic")


class FactorGaussian(FullFamily):
    """Components N(μ_k, Λ_kΛ_kᵀ + Ψ_k): x = μ + Λz + noise, with q standard normal factors z that nobody sees.

    Parameters
    ----------
    n_factors : int >= 1, default 1
        q, at most the number of columns; less than that with isotropic noise.
    noise : {"diagonal", "isotropic"}, default "diagonal"
        Ψ: a variance for each column (factor analysis), or one for all (probabilistic principal components).
    reg_covar : float >= 0, default 0
        Added to every variance of the noise, in squared units of the data.

    Notes
    -----
    Parameters: means (K, d), loadings (K, d, q) and noise, (K, d) or (K,), in the anchored frame of center (d,) and
    scale (d,); and the flags empty (K,) and floored, shaped as noise, of the last M-step.

    A row costs some d·q operations for each component, and no matrix (d, d) is ever made: E[z | x] = M⁻¹ΛᵀΨ⁻¹(x − μ)
    with M = I + ΛᵀΨ⁻¹Λ (Rubin & Thayer 1982; Tipping & Bishop 1999). Statistics are Σ r, Σ r·x, Σ r·x², Σ r·x·E[z]ᵀ,
    Σ r·E[z] and Σ r·E[zzᵀ]. The M-step finds means, loadings and noise together; see `m_step`. Noise ends at 2⁻³⁰ of
    the square of a column's scale ("floored"): a Heywood case. Loadings are found up to a rotation of the factors.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import FactorGaussian
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(4000, 1)) @ [[2.0, 1.0, 3.0]] + rng.normal(size=(4000, 3))
    >>> family = FactorGaussian(1)
    >>> mix = Mixture(family, 1, tol=1e-9, max_iter=1000).fit(x)
    >>> np.abs(family.loadings(mix.params_)).round(1).ravel().tolist()
    [2.0, 1.0, 3.0]
    """

    def __init__(self, n_factors: int = 1, noise: str = "diagonal", reg_covar: float = 0.0) -> None:
        if isinstance(n_factors, bool) or not isinstance(n_factors, int | np.integer) or n_factors < 1:
            raise ParameterError(f"n_factors is {n_factors!r}; it must be an integer >= 1")
        if noise not in NOISES:
            raise ParameterError(f"noise is {noise!r}; it must be one of {list(NOISES)}")
        if not reg_covar >= 0:
            raise ParameterError(f"reg_covar is {reg_covar}; it must be a number >= 0")
        self.n_factors, self.noise, self.reg_covar = int(n_factors), noise, float(reg_covar)
        self._integrates = False

    estimates, overflows, hides = "a covariance", "whose squares overflow", "factors"
    parameter_names = ("means", "loadings", "noise")

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params.means), len(x)))
        for block in self._blocks(params, x):
            kernel.load(x[block])
            kernel.log_prob(out[:, block])
        return out.T

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Expected statistics about the anchor of `params`, weighted by resp (n, K)."""
        kernel = self.kernel(params)
        for block in self._blocks(params, x):
            kernel.load(x[block])
            kernel.accumulate(np.ascontiguousarray(resp[block].T))
        return kernel.stats()

    @np.errstate(over="ignore", invalid="ignore")  # parameters that are not finite are an error
    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Means, loadings and noise; a component without rows keeps its own."""
        empty = empty_components(stats.weight)
        found = estimated(stats, self.is_isotropic, self._regularization(previous))
        of_noise = empty.reshape(-1, *[1] * (found.noise.ndim - 1))
        return previous.replace(
            means=np.where(empty[:, None], previous.means, found.means),
            loadings=np.where(empty[:, None, None], previous.loadings, found.loadings),
            noise=np.where(of_noise, previous.noise, found.noise),
            empty=empty,
            floored=np.where(of_noise, False, found.floored),
        )

    # --- the columns of the data -------------------------------------------------------------------------------------

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Family:
        """This family; it needs as many columns as factors.

        Raises
        ------
        ParameterError : fewer columns
        """
        self.check(n_features)
        return self

    def check(self, n_features: int) -> None:
        """Refuse columns that are too few for the factors.

        Raises
        ------
        ParameterError : fewer columns than factors, or as many with isotropic noise
        """
        most = n_features - 1 if self.is_isotropic else n_features
        if self.n_factors > most:
            why = ", since isotropic noise needs a direction that no factor explains" if self.is_isotropic else ""
            raise ParameterError(
                f"{self.n_factors} factors of rows with n_features = {n_features}: at most {most} can be told{why}; "
                "ask for fewer factors"
            )

    # --- values that were not observed -------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN: of what `integrating` returns."""
        return self._integrates

    def integrating(self) -> Self:
        """This family for rows that may hold NaN: values that were not observed, missing at random (Rubin 1976).

        Densities are of what was observed, and statistics are expected given that; parameters and the M-step stay. A
        row costs d·q² operations where no other lacks the same columns.
        """
        other = copy.copy(self)
        other._integrates = True
        return other

    @property
    def can_integrate(self) -> bool:
        """Always, so that nobody has to try."""
        return True

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows x (n, d) whose NaN are replaced by Σ_k resp_k · E_k[x_m | x_o], for resp (n, K); the dtype of x."""
        out = np.zeros(x.shape)
        for block, kernel in self._conditioned(params, x):
            for k in range(len(params.means)):
                out[block] += resp[block, k, None] * kernel.given(k).rows
        return np.where(np.isnan(x), params.center + params.scale * out, x).astype(x.dtype)

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from each row's component (n,), given what was observed: factors first."""
        out, q = np.array(x, dtype=np.float64), params.loadings.shape[2]
        standard, noise = rng.standard_normal((len(x), q)), rng.standard_normal(x.shape)
        deviations = np.sqrt(noise_of(params))
        for block, kernel in self._conditioned(params, x):
            for k in np.unique(component[block]):
                rows = np.flatnonzero(component[block] == k)
                given, which = kernel.given(int(k)), kernel.patterns.which[rows]
                lower = np.linalg.cholesky(given.covariances)[which]
                z = (lower @ standard[block][rows, :, None])[:, :, 0]
                drawn = given.rows[rows] + z @ params.loadings[k].T + noise[block][rows] * deviations[k]
                out[np.arange(len(x))[block][rows]] = params.center + params.scale * drawn
        return np.where(np.isnan(x), out, x).astype(x.dtype)

    # --- capabilities ------------------------------------------------------------------------------------------------

    @property
    def is_isotropic(self) -> bool:
        """Whether all columns have the same noise."""
        return self.noise == "isotropic"

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Products with the factors, in float64 whatever the rows."""
        return IncompleteFactorKernel(params) if self._integrates else FactorKernel(params)

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """An anchor, and for every component the principal directions of rows x (n, d) as factors.

        Raises
        ------
        NumericalError : a column that spreads so little that its square vanishes
        """
        self.check(x.shape[1])
        center, deviation = location_and_spread(x, weight)
        vanishing = np.flatnonzero((deviation > 0) & (deviation < LEAST_SPREAD))
        if len(vanishing):
            raise NumericalError(
                f"column {vanishing[0]} spreads over {deviation[vanishing[0]]:.3g} only, whose square vanishes in "
                "float64, or its inverse overflows; rescale it first"
            )
        scale = self.scale_of(deviation)
        found = begun(x, weight, center, scale, self.n_factors, self.is_isotropic)
        return self._assembled(center, scale, *(np.repeat(one[None], n_components, axis=0) for one in found))

    def scale_of(self, deviation: Array) -> Array:
        """The anchor's scale (d,), powers of two, for columns of given standard deviations (d,)."""
        if self.is_isotropic:
            deviation = np.full_like(deviation, np.sqrt(np.mean(deviation**2)))
        deviation = np.maximum(deviation, np.sqrt(self.reg_covar))
        return np.exp2(np.round(np.log2(np.where(deviation == 0, 1.0, deviation))))

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        k, d, q = params.loadings.shape
        return incomplete_block_rows(k, d, q) if self._integrates else block_rows_of(k, d)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        held = incomplete_bytes if self._integrates else kernel_bytes
        return held(n_components, n_features, self.n_factors)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Sums of columns, of their squares, and of their products with the factors."""
        q = self.n_factors
        return 8 * n_components * (1 + n_features * (2 + q) + q * (1 + q))

    def penalty(self, params: Params, stats: Stats) -> float:
        """½·reg_covar·Σ_k n_k tr Ψ_k⁻¹, in nats: what the M-step subtracts from the expected log-likelihood."""
        if self.reg_covar == 0:
            return 0.0
        return float(0.5 * stats.weight @ (self._regularization(params) / noise_of(params)).sum(axis=1))

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Bound on how far `maximize` may have missed its maximum, in nats: rounding, and floors that rise."""
        return missed(stats, new.noise, new.floored, old.noise, new.loadings)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Moments that leave noise, and factors that spread in every direction."""
        return possible_statistics(stats, valid, self.is_isotropic)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components to which a policy was applied in the last M-step; a Heywood case is "floored"."""
        floored = np.reshape(params.floored, (len(params.floored), -1)).any(axis=1)
        return {"empty": np.flatnonzero(params.empty).tolist(), "floored": np.flatnonzero(floored).tolist()}

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """Moments about the anchor of `old` → about that of `new`, exactly."""
        ratio, shift = old.scale / new.scale, (old.center - new.center) / new.scale
        if not shift.any() and (ratio == 1.0).all():
            return stats
        first, n = stats.x * ratio, stats.weight[:, None]
        return stats.replace(
            x=first + n * shift,
            squares=stats.squares * ratio**2 + shift * (2.0 * first + n * shift),
            crossed=stats.crossed * ratio[:, None] + shift[:, None] * stats.factors[:, None, :],
        )

    def reanchored(self, params: Params) -> Params:
        """These components about an anchor in their middle, if the present anchor has come to lie far off."""
        center = np.median(params.means, axis=0)
        variances = (params.loadings**2).sum(axis=2) + noise_of(params)
        spread = np.sqrt(np.mean(variances + (params.means - center) ** 2, axis=0))
        if self.is_isotropic:
            spread = np.full_like(spread, np.sqrt(np.mean(spread**2)))
        grown = (spread > FAR) | ((spread < 1 / FAR) & (spread > 2 * np.sqrt(FLOOR)))
        if not grown.any() and (np.abs(center) <= FAR * np.maximum(spread, 1.0)).all():
            return params
        scale = self.scale_of(np.where(grown, params.scale * spread, params.scale))
        moved = params.replace(center=params.center + params.scale * center, scale=scale)
        return self.with_values(
            moved,
            {"means": self.means(params), "loadings": self.loadings(params), "noise": self.noise_variances(params)},
        )

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits."""
        _, d, q = params.loadings.shape
        z, noise = rng.standard_normal((count, q)), rng.standard_normal((count, d))
        own = params.means[component] + z @ params.loadings[component].T
        return np.asarray(params.center + params.scale * (own + noise * np.sqrt(noise_of(params)[component])))

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows whose squares may overflow, in nats; −∞ below what float64 holds."""
        return far_log_prob(self._residuals(params, x)) if not np.isnan(x).any() else np.full((len(x), 1), np.nan)

    def far_order(self, params: Params, x: Array) -> Array:
        """Numbers (n, K) that order components where all of these are −∞."""
        return far_order(self._residuals(params, x))

    # --- what is asked of parameters ---------------------------------------------------------------------------------

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        if found := missing(params, ("means", "loadings", "noise", "center", "scale", "empty", "floored")):
            return found
        shapes = self.shapes(n_components, n_features)
        found = shaped("means", params.means, shapes["means"]) + shaped("loadings", params.loadings, shapes["loadings"])
        found += within("noise", params.noise, shapes["noise"], np.finfo(np.float64).tiny)
        found += anchor_faults(params, n_features)
        return found + flags("empty", params.empty, shapes["empty"]) + flags("floored", params.floored, shapes["noise"])

    def shapes(self, k: int, d: int) -> dict[str, tuple[int, ...]]:
        """Shape of every array of the parameters of k components in d features."""
        noise = (k,) if self.is_isotropic else (k, d)
        loadings = (k, d, self.n_factors)
        each = {"means": (k, d), "loadings": loadings, "noise": noise, "center": (d,), "scale": (d,)}
        return {**each, "empty": (k,), "floored": noise}

    def free_parameters(self, params: Params) -> int:
        """Means, noise, and loadings less the rotations that change nothing; no more than a full covariance has."""
        k, d, q = params.loadings.shape
        covariance = d * q - q * (q - 1) // 2 + (1 if self.is_isotropic else d)
        return int(k * (d + min(covariance, d * (d + 1) // 2)))

    def free_of(self, params: Params, name: str) -> int:
        """Numbers of the means, of the noise, or of the loadings less the rotations that change nothing."""
        k, _, q = params.loadings.shape
        return super().free_of(params, name) - (k * (q * (q - 1) // 2) if name == "loadings" else 0)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Means and noise in units of the data; loadings in that rotation in which q(q − 1)/2 of them are 0."""
        free, loadings = self._free(params), self.loadings(params)
        held = [in_triangle(own, mask)[mask] for own, mask in zip(loadings, free, strict=True)]
        return FreeForm(
            {"means": self.means(params), "loadings": np.array(held), "noise": self.noise_variances(params)}
        )

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, about the same anchor."""
        free = self._free(params)
        loadings = np.zeros(params.loadings.shape)
        for own, mask, numbers in zip(loadings, free, values["loadings"], strict=True):
            own[mask] = numbers
        return self.with_values(params, {**values, "loadings": loadings})

    # --- the data's own units ----------------------------------------------------------------------------------------

    def means(self, params: Params) -> Array:
        """Means (K, d) in units of the data."""
        return np.asarray(params.center + params.scale * params.means)

    def loadings(self, params: Params) -> Array:
        """Loadings (K, d, q) in units of the data."""
        return np.asarray(params.loadings * params.scale[:, None])

    def noise_variances(self, params: Params) -> Array:
        """Variances of the noise in units of the data, (K, d), or (K,) of isotropic noise."""
        return np.asarray(params.noise * (params.scale[0] ** 2 if self.is_isotropic else params.scale**2))

    def covariances(self, params: Params) -> Array:
        """Covariances (K, d, d) in units of the data: as large as what this family avoids."""
        loadings, noise = self.loadings(params), noise_of(params) * params.scale**2
        found = loadings @ np.swapaxes(loadings, 1, 2)
        found[:, np.arange(noise.shape[1]), np.arange(noise.shape[1])] += noise
        return found

    def precisions(self, params: Params) -> Array:
        """Inverses of the covariances (K, d, d) in units of the data, by Woodbury's identity."""
        whitening = posterior_of(params).whitening / params.scale[:, None]
        found = -whitening @ np.swapaxes(whitening, 1, 2)
        diagonal = np.arange(whitening.shape[1])
        found[:, diagonal, diagonal] += 1.0 / (noise_of(params) * params.scale**2)
        return found

    def factors(self, params: Params, x: Array) -> Array:
        """E_k[z | x] (n, K, q) of rows x (n, d), given what was observed of them."""
        k, _, q = params.loadings.shape
        out = np.empty((len(x), k, q))
        for block, kernel in self._conditioned(params, x):
            for i in range(k):
                out[block, i] = kernel.given(i).means
        return out

    def with_values(self, params: Params, values: Mapping[str, Array]) -> Params:
        """Means (K, d), loadings (K, d, q) and noise in units of the data."""
        changed: dict[str, Array] = {}
        if "means" in values:
            changed["means"] = (np.asarray(values["means"]) - params.center) / params.scale
        if "loadings" in values:
            changed["loadings"] = np.asarray(values["loadings"]) / params.scale[:, None]
        if "noise" in values:
            changed["noise"] = np.asarray(values["noise"]) / (
                params.scale[0] ** 2 if self.is_isotropic else params.scale**2
            )
        return params.replace(**changed)

    def at_values(self, means: Array, loadings: Array, noise: Array) -> Params:
        """Components with these values in units of the data, about an anchor in their middle."""
        k, d = means.shape
        center = means.mean(axis=0)
        variances = (loadings**2).sum(axis=2) + (noise[:, None] if noise.ndim == 1 else noise)
        scale = self.scale_of(np.sqrt(np.mean(variances + (means - center) ** 2, axis=0)))
        blank = self._assembled(center, scale, np.zeros((k, d)), np.zeros(loadings.shape), np.ones(noise.shape))
        return self.with_values(blank, {"means": means, "loadings": loadings, "noise": noise})

    # --- inner -------------------------------------------------------------------------------------------------------

    def _assembled(self, center: Array, scale: Array, means: Array, loadings: Array, noise: Array) -> Params:
        empty = np.zeros(len(means), dtype=np.bool_)
        return Params(
            means=means,
            loadings=loadings,
            noise=noise,
            center=center,
            scale=scale,
            empty=empty,
            floored=np.zeros(noise.shape, dtype=np.bool_),
        )

    def _regularization(self, params: Params) -> Array:
        """`reg_covar` in the anchored frame (d,)."""
        return np.asarray(self.reg_covar / params.scale**2)

    def _free(self, params: Params) -> list[Array]:
        """Which loadings of each component are free numbers."""
        return [triangle(own, noise) for own, noise in zip(params.loadings, noise_of(params), strict=True)]

    def _residuals(self, params: Params, x: Array) -> Residuals:
        """(x̃ − m − Λẑ)·Ψ^(−½) beside ẑ, whose squares are the distance."""
        rows, exponents = anchored_far(x.astype(np.float64), params.center, params.scale)
        known, deviations = posterior_of(params), np.sqrt(noise_of(params))

        def whitened(k: int, y: Array) -> Array:
            factors = known.unwhitening[k].T @ (known.whitening[k].T @ y)
            return np.vstack([(y - params.loadings[k] @ factors) / deviations[k][:, None], factors])

        own = [-whitened(k, mean[:, None])[:, 0] for k, mean in enumerate(params.means)]
        return Residuals(exponents, lambda k: whitened(k, rows.T), np.array(own), known.constants)

    def _conditioned(self, params: Params, x: Array) -> Any:
        """Blocks of rows, and a kernel that says of each what the factors are given what was observed."""
        kernel = IncompleteFactorKernel(params)
        for first in range(0, len(x), kernel.block_rows):
            block = slice(first, min(first + kernel.block_rows, len(x)))
            kernel.load_any(x[block])
            yield block, kernel

    def _blocks(self, params: Params, x: Array) -> list[slice]:
        step = self.block_rows(params)
        return [slice(start, min(start + step, len(x))) for start in range(0, len(x), step)]
