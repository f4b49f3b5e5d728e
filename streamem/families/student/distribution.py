"""The multivariate t distribution with full, tied, diagonal or spherical scale matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.extrapolation import kept_signs
from streamem.core.faults import missing, shaped
from streamem.core.free_form import FreeForm
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.covariance_floor import eps_of
from streamem.families.empty_components import empty_components
from streamem.families.gaussian.apart import arithmetic
from streamem.families.gaussian.arithmetic import origins
from streamem.families.gaussian.elliptical import Elliptical
from streamem.families.gaussian.incomplete import in_words, incomplete_bytes
from streamem.families.gaussian.marginal import by_pattern, drawn
from streamem.families.gaussian.shortfall import Sizes, shortfall
from streamem.families.student.arithmetic import student_constants, student_kernel, student_workspace_bytes
from streamem.families.student.dofs import checked_dof
from streamem.families.student.far import far_log_prob
from streamem.families.student.incomplete import ConditionalTails, incomplete_students
from streamem.families.student.m_step import Precisions, bound_objective, dofs_and_expansions, expansions
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

START_DOF = 10.0
"""Where estimated degrees of freedom start."""


class StudentT(Elliptical):
    """Components t(m_k, Σ_k, ν_k): Gaussians with covariance Σ_k/w, w ~ Γ(½ν_k, ½ν_k), for data with outliers.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
        Of the scale matrices Σ_k; a covariance is Σ_k·ν_k/(ν_k − 2) where ν_k > 2.
    reg_covar : float >= 0
        Added to the diagonal of every scale matrix, in squared units of the data.
    dof : "estimated", "tied", float > 0 or K of them, default "estimated"
        Degrees of freedom ν: estimated for each component, estimated as one number for all, or fixed. Infinite ones
        are those of a Gaussian. Estimated ones stay within 0.1 and 2²⁰.

    Notes
    -----
    Parameters: those of a `Gaussian`, with scale matrices as covariances, and dofs (K,).

    The precision w of a row is not observed; given the row its mean is u = (ν + d)/(ν + δ), δ the squared distance, so
    that far rows count little (Peel & McLachlan 2000, eqs. 17–26). The M-step maximizes over one more parameter, the
    mean of w (Kent, Tyler & Vardi 1994; Liu, Rubin & Wu 1998, §3): scale matrices are Σ r·u·zzᵀ/Σ r·u, and
    log ½ν − ψ(½ν) = log(Σ r·u/Σ r) − Σ r·E[log w]/Σ r. Each step raises the likelihood as without it, and by more.

    Empty and collapsed components are treated as those of a `Gaussian`, and so are missing values (`integrating`): of
    d_o observed ones u = (ν + d_o)/(ν + δ_o), and the conditional scale of the others has the weight of the row without
    u (Liu 1996, §2).

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import StudentT
    >>> x = np.random.default_rng(0).standard_t(3.0, size=(4000, 1))
    >>> family = StudentT("full")
    >>> mix = Mixture(family, 1, tol=1e-9, max_iter=1000, random_state=0).fit(x)
    >>> mix.params_.dofs.round(2), family.scales(mix.params_).round(2).ravel()
    (array([2.87]), array([0.95]))
    """

    def __init__(
        self,
        covariance_type: str = "full",
        reg_covar: float = 0.0,
        dof: str | float | tuple[float, ...] = "estimated",
    ) -> None:
        super().__init__(covariance_type, reg_covar)
        self.dof = checked_dof(dof)

    # --- the Family port ---------------------------------------------------------------------------------------------

    @np.errstate(over="ignore", invalid="ignore")  # a scale that is not finite is an error
    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Weighted means, scale matrices and degrees of freedom, as the class says."""
        moments, precisions = self._moments(stats), self._precisions(stats)
        found = self._estimate(moments, previous, precisions.empty)
        dofs, expansion = dofs_and_expansions(precisions, previous.dofs, self.dof, self._structure.shared)
        covariances = found.covariances
        if self._structure.shared:
            covariances = covariances * precisions.pooled_ratio(expansion)
        sizes = self._sizes_of(moments, previous, found.means, precisions.empty)
        return self._assemble(previous.replace(dofs=dofs), found.means, covariances, found.empty, sizes)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """The fastest kernel that is accurate at these parameters, for rows of `dtype`."""
        if self._integrates:
            return incomplete_students(self._structure, params, dtype)
        return student_kernel(self._structure, params, dtype)

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the kernel runs at these parameters on rows of `dtype`, in words."""
        words = arithmetic(self._structure, params, dtype)
        return in_words(words) if self._integrates else words

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        if found := missing(params, ("dofs",)):
            return found
        known = np.where(np.isposinf(params.dofs), 1.0, params.dofs) if np.ndim(params.dofs) else params.dofs
        found = shaped("dofs", known, (n_components,))
        if not found and not (known > 0).all():
            found = [f"dofs holds {known.min():.6g}, where numbers > 0 are needed"]
        return found + super().faults(params, n_components, n_features)

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d) whose squares may overflow, in nats: finite."""
        return by_pattern(self._structure, params, x, self._far_log_prob)

    def far_order(self, params: Params, x: Array) -> Array:
        """The log-densities themselves, none of which is −∞."""
        return self.far_log_prob(params, x)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        dense = student_workspace_bytes(self._structure, n_components, n_features)
        if not self._integrates:
            return dense
        tails = 8 * 7 * n_components * block_rows(n_components, n_features)
        return dense + incomplete_bytes(self._structure, dense, n_components, n_features) + tails

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights, precisions, first and second moments in float64."""
        moments = self._structure.n_moments(n_features) * (1 if self._structure.shared else n_components)
        return 8 * (n_components * (3 + n_features) + moments)

    def penalty(self, params: Params, stats: Stats) -> float:
        """½·reg_covar·Σ_k n_k tr Σ_k⁻¹, in nats, as a `Gaussian`'s."""
        return float(np.sum(self._penalties(params, stats.weight)))

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Bound on how far `maximize` may have missed its maximum, in nats.

        As for a `Gaussian`; degrees of freedom that err by ν·eps of themselves; and what the penalty of `reg_covar`,
        which the M-step weighs by Σ r·u, differs from that by Σ r.
        """
        moments, precisions = self._moments(stats), self._precisions(stats)
        sizes = self._sizes_of(moments, old, new.means, precisions.empty)
        origin, eps = origins(self._structure, old), eps_of(moments, old.means.shape[1])

        def objective(params: Params) -> Array:
            penalties = self._penalties(params, precisions.scaled)
            return bound_objective(self._structure, params, moments, precisions, origin, penalties)

        weight = np.maximum(precisions.weight, precisions.scaled)
        missed = shortfall(self._structure, old, new, weight, sizes, objective)
        blurred = 0.25 * precisions.weight * np.minimum(np.minimum(new.dofs, 2.0**30) * eps, 1.0) ** 2
        return missed + float(blurred.sum()) + max(0.0, self._unlike(old, new, precisions))

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """Moments about the anchor of `old` → about that of `new`, exactly; precisions stay."""
        scaled = self._moved(stats.scaled, old, new)
        return stats if scaled is stats.scaled else stats.replace(scaled=scaled)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Moments of scale matrices that are positive definite; weights and precisions keep their signs."""
        kept = kept_signs(stats.replace(scaled=valid.scaled), valid)
        return kept.replace(scaled=self._project_moments(stats.scaled, valid.scaled))

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits."""
        k, d = params.means.shape
        dof, scales = float(params.dofs[component]), self.scales(params)
        if self.covariance_type in ("full", "tied"):
            own = scales if self.covariance_type == "tied" else scales[component]
            noise = np.asarray(rng.multivariate_normal(np.zeros(d), own, count))
        else:
            noise = rng.standard_normal((count, d)) * np.sqrt(self.variances(scales, k, d)[component])
        if np.isfinite(dof):
            precision = rng.chisquare(dof, count) / dof
            noise /= np.sqrt(np.maximum(precision, np.finfo(np.float64).tiny))[:, None]
        return np.asarray(self.means(params)[component] + noise)

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from each row's component (n,), given what was observed.

        The precision of a row is w ~ Γ(½(ν + d_o), ½(ν + δ_o)), given which the rest are Gaussian; a t with ν + d_o
        degrees of freedom, in all.
        """
        lacking, chosen = np.isnan(x), np.eye(len(params.means))[component]
        means = self.filled(params, x, chosen)
        y = drawn(self._structure, params, component, rng.standard_normal(x.shape))
        left = y - self.filled(params, np.where(lacking, np.nan, y), chosen)
        tails, every = ConditionalTails(self._structure, params), np.arange(len(x))
        mean, shape = tails.precisions_of(x)[:, component, every]
        light = np.isinf(params.dofs[component])
        gamma = rng.standard_gamma(np.where(light, 1.0, shape)) / np.where(light, 1.0, shape)
        precision = np.where(light, 1.0, np.maximum(gamma * mean, np.finfo(np.float64).tiny))
        return np.where(lacking, means + (left / np.sqrt(precision)[:, None]).astype(x.dtype), x)

    estimates = "a scale matrix"

    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters of k means, their scale matrices and degrees of freedom."""
        dofs = {"estimated": k, "tied": 1}.get(self.dof, 0) if isinstance(self.dof, str) else 0
        return super().n_parameters(k, d) + dofs

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Means, scale matrices (as covariances) and degrees of freedom."""
        return ("means", "covariances", "dofs")

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Means, scale matrices, in units of the data, and degrees of freedom that are estimated."""
        own = super().free_form(params, n_components)
        if not isinstance(self.dof, str):
            return own
        shared = frozenset({"dofs"} if self.dof == "tied" else ())
        return own.joined(FreeForm({"dofs": params.dofs[:1] if shared else params.dofs}, shared))

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, about the same anchor."""
        found = super().from_free_form(values, params)
        return found.replace(dofs=np.broadcast_to(values["dofs"], params.dofs.shape)) if "dofs" in values else found

    def shapes(self, k: int, d: int) -> dict[str, tuple[int, ...]]:
        """Shape of every array of the parameters of k components in d features."""
        return {**super().shapes(k, d), "dofs": (k,)}

    # --- the data's own units ----------------------------------------------------------------------------------------

    def scales(self, params: Params) -> Array:
        """Scale matrices in units of the data, shaped as scikit-learn's covariances."""
        return self.covariances(params)

    def with_dofs(self, params: Params, dofs: Array) -> Params:
        """Exchange the degrees of freedom (K,)."""
        return params.replace(dofs=np.asarray(dofs, dtype=np.float64))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _anchor(self, center: Array, scale: Array, n_components: int) -> Params:
        if isinstance(self.dof, tuple) and len(self.dof) != n_components:
            raise ParameterError(f"dof has {len(self.dof)} numbers, where n_components is {n_components}")
        start = START_DOF if isinstance(self.dof, str) else np.array(self.dof)
        return Params(center=center, scale=scale, dofs=np.broadcast_to(start, n_components).copy())

    def _assemble(
        self, anchor: Params, means: Array, covariances: Array, empty: Array, sizes: Sizes | None = None
    ) -> Params:
        return super()._assemble(anchor, means, covariances, empty, sizes).replace(dofs=anchor.dofs)

    def _far_log_prob(self, params: Params, x: Array) -> Array:
        constants = student_constants(self._structure, params)
        return far_log_prob(self._residuals(params, x), params.dofs, constants, x.shape[1])

    def _moments(self, stats: Stats) -> Stats:
        """Moments with r·u for r, and how they were rounded."""
        return stats.scaled.replace(rounding=stats.rounding) if "rounding" in stats else stats.scaled

    def _precisions(self, stats: Stats) -> Precisions:
        return Precisions(stats.weight, stats.scaled.weight, stats.log_precision, empty_components(stats.weight))

    def _unlike(self, old: Params, new: Params, precisions: Precisions) -> float:
        """What the M-step's penalty rises by less, from `old` to `new`, than `penalty`, in nats."""
        if self.reg_covar == 0:
            return 0.0
        more = precisions.scaled - precisions.weight
        expansion = expansions(precisions, new.dofs, self._structure.shared)
        before = self._penalties(old, more)
        after = self._penalties(new, precisions.scaled / expansion - precisions.weight)
        return float(np.sum(before - after) + EPS * np.sum(np.abs(before) + np.abs(after)))
