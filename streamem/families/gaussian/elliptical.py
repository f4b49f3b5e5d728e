"""What families of elliptical densities share: a location, a matrix of scales, the anchored frame and its units.

Moments are taken about an **anchor** x̃ = (x − center) / scale, chosen from the first sample and kept in the parameters:
moments stay linear, and data far from the origin loses no digits. Only a stream that drifts away from its anchor gets a
new one (`reanchored`). Scales are powers of two, so that scaling never rounds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.free_form import FreeForm
from streamem.core.numerics import EPS
from streamem.core.ports import FullFamily
from streamem.core.stats import Stats
from streamem.families.anchor import location_and_spread
from streamem.families.covariance_floor import FLOOR, eps_of
from streamem.families.far_rows import Residuals, anchored_far
from streamem.families.gaussian.apart import components_apart
from streamem.families.gaussian.arithmetic import about_means, log_constants, origins
from streamem.families.gaussian.conditional import filled_rows
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.faults import gaussian_faults
from streamem.families.gaussian.shortfall import Sizes, least_of, precision_diagonal
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

LEAST_SPREAD = 2.0**-505
"""Of a column without regularization: its square, and the inverse of that, are float64."""

FAR = 16.0
"""An anchor that is so many spreads away from the components, or so much smaller than their spread, is given up."""


class Elliptical(FullFamily):
    """Components whose log-density depends on (x − m_k)ᵀΣ_k⁻¹(x − m_k); subclasses say how.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
        Of the matrices Σ_k: covariances of a Gaussian, scales of a Student-t.
    reg_covar : float >= 0
        Added to the diagonal of every Σ_k, in squared units of the data.

    Notes
    -----
    Parameters: means (K, d), covariances and precisions_cholesky in the anchored frame, center (d,), scale (d,),
    and the flags empty (K,) and floored (K,) of the last M-step.
    """

    def __init__(self, covariance_type: str = "full", reg_covar: float = 0.0) -> None:
        if covariance_type not in COVARIANCES:
            raise ParameterError(f"covariance_type is {covariance_type!r}; it must be one of {list(COVARIANCES)}")
        if not reg_covar >= 0:
            raise ParameterError(f"reg_covar is {reg_covar}; it must be a number >= 0")
        self.covariance_type = covariance_type
        self.reg_covar = float(reg_covar)
        self._structure = COVARIANCES[covariance_type]
        self._integrates = False

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params.means), x.shape[0]))
        for block in self._blocks(params, x):
            kernel.load(x[block])
            kernel.log_prob(out[:, block])
        return out.T

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Statistics about the anchor of `params`, weighted by resp (n, K)."""
        kernel = self.kernel(params)
        for block in self._blocks(params, x):
            kernel.load(x[block])
            kernel.accumulate(np.ascontiguousarray(resp[block].T))
        return kernel.stats()

    # --- values that were not observed -------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN: of what `integrating` returns."""
        return self._integrates

    def integrating(self) -> Self:
        """This family for rows that may hold NaN: values that were not observed, missing at random (Rubin 1976).

        The E-step takes expected statistics given the observed values; with missing values x_m of a row and P the
        precision, E[x_m] = m_m + Σ_mo Σ_oo⁻¹ (x_o − m_o), and (P_mm)⁻¹ is added to its square (Dempster, Laird & Rubin
        1977, §4.1.1; Little & Rubin 2002, §11.2). Of variances alone, E[x_m] = m_m. Everything else stays: parameters,
        statistics, the M-step with its floor and penalty.
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
        return filled_rows(self._structure, params, x, resp)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The anchor from a sample x (n, d), and one standard component at it for every k."""
        center, deviation = location_and_spread(x, weight)
        self._require_squares(deviation)
        return self.at_anchor(center, self.scale_of(deviation), n_components)

    def _require_squares(self, deviation: Array) -> None:
        """Refuse columns of standard deviations (d,) so small that variances, or precisions, leave float64.

        Raises
        ------
        NumericalError : a column without regularization whose squares vanish
        """
        wide = np.maximum(deviation, np.sqrt(self.reg_covar))
        if self._structure.isotropic:
            wide = np.full_like(wide, wide.max())
        vanishing = np.flatnonzero((deviation > 0) & (wide < LEAST_SPREAD))
        if len(vanishing):
            raise NumericalError(
                f"column {vanishing[0]} spreads over {deviation[vanishing[0]]:.3g} only, whose square vanishes in "
                "float64, or its inverse overflows; rescale it first"
            )

    def scale_of(self, deviation: Array) -> Array:
        """The anchor's scale (d,) for columns of given standard deviations (d,)."""
        if self._structure.isotropic:
            deviation = np.full_like(deviation, np.sqrt(np.mean(deviation**2)))
        # A column without spread of its own is measured by the regularization that it will get.
        deviation = np.maximum(deviation, np.sqrt(self.reg_covar))
        deviation[deviation == 0] = 1.0
        return np.exp2(np.round(np.log2(deviation)))

    def at_anchor(self, center: Array, scale: Array, n_components: int) -> Params:
        """Standard components at a given anchor (d,), (d,)."""
        d = len(center)
        anchor = self._anchor(center, scale, n_components)
        identity = {
            "full": np.repeat(np.eye(d)[None], n_components, axis=0),
            "tied": np.eye(d),
            "diag": np.ones((n_components, d)),
            "spherical": np.ones(n_components),
        }[self.covariance_type]
        return self._assemble(anchor, np.zeros((n_components, d)), identity, np.zeros(n_components, dtype=np.bool_))

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(*params.means.shape)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        return gaussian_faults(params, self.covariance_type, n_components, n_features)

    def reanchored(self, params: Params) -> Params:
        """These components about an anchor in their middle, if the present anchor has come to lie far off."""
        k, d = params.means.shape
        center = np.median(params.means, axis=0)
        variances = self._structure.variances(params.covariances, k, d)
        spread = np.sqrt(np.mean(variances + (params.means - center) ** 2, axis=0))
        if self._structure.isotropic:
            spread = np.full(d, np.sqrt(np.mean(spread**2)))
        # At the floor a spread tells nothing, and following it would shrink the scale without end.
        grown = (spread > FAR) | ((spread < 1 / FAR) & (spread > 2 * np.sqrt(FLOOR)))
        if not grown.any() and (np.abs(center) <= FAR * np.maximum(spread, 1.0)).all():
            return params
        scale = np.where(grown, params.scale * spread, params.scale)
        anchor = params.replace(center=params.center + params.scale * center, scale=self.scale_of(scale))
        ratio = params.scale / anchor.scale
        means = (params.means * params.scale + (params.center - anchor.center)) / anchor.scale
        return self._assemble(anchor, means, self._structure.scaled(params.covariances, ratio), params.empty)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components to which a policy was applied in the last M-step."""
        floored = np.broadcast_to(params.floored, params.empty.shape)
        return {"empty": np.flatnonzero(params.empty).tolist(), "floored": np.flatnonzero(floored).tolist()}

    estimates, overflows = "a covariance", "whose squares overflow"

    # --- the data's own units ----------------------------------------------------------------------------------------

    def means(self, params: Params) -> Array:
        """Means (K, d) in units of the data."""
        return np.asarray(params.center + params.scale * params.means)

    def covariances(self, params: Params) -> Array:
        """Covariances in units of the data, shaped as scikit-learn's."""
        return self._structure.scaled(params.covariances, params.scale)

    def precisions_cholesky(self, params: Params) -> Array:
        """Upper-triangular U with P = U Uᵀ in units of the data, shaped as scikit-learn's."""
        return self._structure.scaled_cholesky(params.precisions_cholesky, params.scale)

    def precisions(self, params: Params) -> Array:
        """Precision matrices in units of the data."""
        return self._structure.precisions(self.precisions_cholesky(params))

    def factors_of(self, covariances: Array) -> Array:
        """Upper-triangular U with P = U Uᵀ of covariances in any units.

        Raises
        ------
        ParameterError : a covariance that is not positive definite
        """
        try:
            return self._structure.precisions_cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise ParameterError(f"covariances must be symmetric and positive definite: {error}") from error

    def shapes(self, k: int, d: int) -> dict[str, tuple[int, ...]]:
        """Shape of every array of the parameters of k components in d features."""
        matrix = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[self.covariance_type]
        floored = () if self._structure.shared else (k,)
        return {
            "means": (k, d),
            "covariances": matrix,
            "precisions_cholesky": matrix,
            "center": (d,),
            "scale": (d,),
            "empty": (k,),
            "floored": floored,
        }

    def variances(self, covariances: Array, k: int, d: int) -> Array:
        """Variance of every component and feature (K, d), of covariances in any units."""
        return self._structure.variances(covariances, k, d)

    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters of k means and their covariances."""
        return k * d + self._structure.n_parameters(k, d)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Means and covariances, in units of the data."""
        shared = frozenset({"covariances"} if self._structure.shared else ())
        symmetric = frozenset({"covariances"} if self.covariance_type in ("full", "tied") else ())
        values = {"means": self.means(params), "covariances": np.asarray(self.covariances(params))}
        return FreeForm(values, shared, symmetric=symmetric)

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, about the same anchor."""
        return self.with_covariances(self.with_means(params, values["means"]), values["covariances"])

    def free_parameters(self, params: Params) -> int:
        """Number of free parameters of these components."""
        return self.n_parameters(*params.means.shape)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Means and covariances."""
        return ("means", "covariances")

    def free_of(self, params: Params, name: str) -> int:
        """How many numbers the means have, or the covariances, whose matrices are symmetric."""
        k, d = params.means.shape
        known = {"means": k * d, "covariances": self._structure.n_parameters(k, d)}
        return known[name] if name in known else super().free_of(params, name)

    def pooled(self, stats: Stats) -> Stats:
        """Moments summed over components.

        Raises
        ------
        ParameterError : covariances of type "tied", which are summed over components already
        """
        if self._structure.shared:
            name = type(self).__name__
            raise ParameterError(
                f'{name}("tied") shares its covariances already; Tied({name}("full")) shares all its parameters'
            )
        return super().pooled(stats)

    def with_values(self, params: Params, values: Mapping[str, Array]) -> Params:
        """Means and covariances in units of the data.

        Raises
        ------
        ParameterError : a covariance that is not positive definite
        """
        if "covariances" in values:
            own = values["covariances"]
            if not (self._structure.variances(own, *params.means.shape) > 0).all():
                raise ParameterError("covariances must be symmetric and positive definite: a variance is not > 0")
            self.factors_of(own)
            params = self.with_covariances(params, own)
        if "means" in values:
            params = self.with_means(params, values["means"])
        rest = {name: value for name, value in values.items() if name not in ("means", "covariances")}
        return super().with_values(params, rest) if rest else params

    def with_means(self, params: Params, means: Array) -> Params:
        """Exchange the means, given in units of the data."""
        return params.replace(means=(means - params.center) / params.scale)

    def with_covariances(self, params: Params, covariances: Array) -> Params:
        """Exchange the covariances, given in units of the data."""
        anchored = self._structure.scaled(covariances, 1.0 / params.scale)
        return self._assemble(params, params.means, anchored, params.empty)

    # --- statistics that were extrapolated ---------------------------------------------------------------------------

    def _project_moments(self, moments: Stats, valid: Stats) -> Stats:
        """Moments whose covariances, in the sense of quadratic forms, are at least 1/16 of those of `valid`."""
        filled = valid.weight > 0
        least = self._spreads(valid, filled) / MOST_FALL

        def possible(found: Stats) -> NDArray[np.bool_]:
            return ~filled | self._structure.exceeds(self._spreads(found, filled), least)

        return shrunk(moments, valid, (moments.weight, valid.weight), possible, self._structure.shared)

    def _spreads(self, moments: Stats, filled: NDArray[np.bool_]) -> Array:
        """Covariances that moments imply; anything where a component has no rows."""
        weight = np.where(filled, moments.weight, 0.0 if self._structure.shared else 1.0)
        means = moments.first / np.where(filled, moments.weight, 1.0)[:, None]
        return self._structure.estimate(weight, means, moments.second, np.zeros(means.shape[1]))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _anchor(self, center: Array, scale: Array, n_components: int) -> Params:
        """What `_assemble` reads of parameters besides their components."""
        return Params(center=center, scale=scale)

    def _estimate(self, moments: Stats, previous: Params, empty: Array) -> Params:
        """Means and covariances before the floor, which components are empty, and the weight (K,) of the others.

        moments: weight (K,), first (K, d) and second, about the origins of `previous`.
        """
        weight = np.where(empty, 1.0, moments.weight)
        shift = np.where(empty[:, None], 0.0, moments.first / weight[:, None])
        origin, own = origins(self._structure, previous), about_means(self._structure, previous)
        shift = np.where((empty & ~own)[:, None], previous.means, shift)
        reg, counted = self.reg_covar / previous.scale**2, np.where(empty, 0.0, moments.weight)
        pooled = counted if self._structure.shared else weight
        covariances = self._structure.estimate(pooled, shift, moments.second, reg)
        if not self._structure.shared:
            covariances[empty] = previous.covariances[empty]
        return Params(means=origin + shift, covariances=covariances, empty=empty, weight=counted)

    def _sizes_of(self, moments: Stats, previous: Params, means: Array, empty: Array) -> Sizes:
        """Mean squares of which the covariances are differences."""
        counted = np.where(empty, 0.0 if self._structure.shared else 1.0, moments.weight)
        squares = self._structure.squares(counted, moments.second, means.shape[1])
        # Of statistics by products in float32, some components' are sums of differences, in float64.
        apart = components_apart(self._structure, previous, np.float32)
        eps = np.where(apart, EPS, eps_of(moments, means.shape[1]))
        each = eps.max() if self._structure.shared else eps.reshape(-1, *[1] * (squares.ndim - 1))
        return Sizes(squares, self._structure.pooled(counted, means**2), np.broadcast_to(each, squares.shape))

    def _moved(self, moments: Stats, old: Params, new: Params) -> Stats:
        """Moments about the origins that `old` implies (its anchor, or each mean) → those of `new`, exactly."""
        ratio = old.scale / new.scale
        if (ratio != 1.0).any():
            second = self._structure.stretched(moments.second, ratio)
            moments = moments.replace(first=moments.first * ratio, second=second)
        moved = (origins(self._structure, old) * old.scale + (old.center - new.center)) / new.scale
        shift = moved - origins(self._structure, new)
        if not shift.any():
            return moments
        second = self._structure.shifted(moments.second, moments.first, moments.weight, shift)
        return moments.replace(first=moments.first + moments.weight[:, None] * shift, second=second)

    def _residuals(self, params: Params, x: Array) -> Residuals:
        rows, exponents = anchored_far(x.astype(np.float64), params.center, params.scale)
        factor, whiten = params.precisions_cholesky, self._structure.whiten
        turned, means = np.ascontiguousarray(rows.T), params.means[:, :, None]
        own = [-whiten(factor, k, mean, np.empty_like(mean))[:, 0] for k, mean in enumerate(means)]
        return Residuals(
            exponents,
            lambda k: np.asarray(whiten(factor, k, turned, np.empty_like(turned))),
            np.array(own),
            log_constants(self._structure, params),
        )

    def _penalties(self, params: Params, weight: Array) -> Array:
        """The penalty of each component (K,), for their weights."""
        reg = self.reg_covar / params.scale**2
        return np.asarray(0.5 * weight * (precision_diagonal(self._structure, params) @ reg))

    def _assemble(
        self, anchor: Params, means: Array, covariances: Array, empty: Array, sizes: Sizes | None = None
    ) -> Params:
        least = least_of(self._structure, covariances, sizes)
        covariances, floored, factors = self._structure.floor_and_factor(covariances, least)
        return Params(
            means=means,
            covariances=covariances,
            precisions_cholesky=factors,
            center=anchor.center,
            scale=anchor.scale,
            empty=empty,
            floored=floored,
        )

    def _blocks(self, params: Params, x: Array) -> list[slice]:
        step = self.block_rows(params)
        return [slice(start, min(start + step, len(x))) for start in range(0, len(x), step)]
