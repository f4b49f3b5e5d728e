"""The multivariate Gaussian with full, tied, diagonal or spherical covariance: see `elliptical` for its frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel, Mixing
from streamem.core.slopes import Slopes
from streamem.core.stats import Stats
from streamem.families.empty_components import empty_components
from streamem.families.far_rows import far_log_prob, far_order
from streamem.families.gaussian.apart import arithmetic, choose_kernel, workspace_bytes
from streamem.families.gaussian.arithmetic import n_statistics, origins
from streamem.families.gaussian.elliptical import Elliptical
from streamem.families.gaussian.few_rows import few_log_prob
from streamem.families.gaussian.incomplete import in_words, incomplete_bytes, incomplete_gaussians
from streamem.families.gaussian.marginal import by_pattern, drawn
from streamem.families.gaussian.screen import screen_bytes, screen_of
from streamem.families.gaussian.shortfall import Sizes, expected_log_likelihood, shortfall
from streamem.families.gaussian.slopes import GaussianSlopes

Array = NDArray[Any]
MEANS, COVARIANCES = frozenset({"means"}), frozenset({"covariances"})


class Gaussian(Elliptical):
    """Gaussian components N(m_k, Σ_k).

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
    reg_covar : float >= 0
        Added to the diagonal of every covariance, in squared units of the data, as scikit-learn does. The M-step then
        maximizes the expected log-likelihood minus ½·reg_covar·Σ_k n_k tr Σ_k⁻¹ (see `penalty`).

    Notes
    -----
    Parameters: means (K, d), covariances and precisions_cholesky in the anchored frame, center (d,), scale (d,),
    and the flags empty (K,) and floored (K,) that tell where the policies below were applied in the last M-step.

    Policy for components that degenerate: an *empty* one (less than 1e-12 of all weight) keeps its mean and
    covariance; a *collapsed* one (an eigenvalue of its covariance below 2⁻⁴⁰ of the data's variance, or below what
    rounding leaves of rows so far away) has its eigenvalues raised to that floor. Both keep EM monotone, but for what
    `shortfall` tells.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Gaussian, Mixture
    >>> x = np.concatenate([np.zeros(50), np.full(50, 8.0)])[:, None] + np.linspace(0.0, 1.0, 100)[:, None]
    >>> Mixture(Gaussian("diag"), 2, random_state=0).fit(x).weights_.round(2).tolist()
    [0.5, 0.5]
    """

    def __init__(self, covariance_type: str = "full", reg_covar: float = 0.0) -> None:
        super().__init__(covariance_type, reg_covar)
        self.together = 1

    @np.errstate(over="ignore", invalid="ignore")  # a covariance that is not finite is an error
    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Weighted means and covariances (Dempster, Laird & Rubin 1977), with the policies of the class."""
        found = self._estimated(stats, previous)
        sizes = self._sizes(stats, previous, found.means)
        return self._assemble(previous, found.means, found.covariances, found.empty, sizes)

    def holds(self, names: frozenset[str]) -> bool:
        """Means or covariances."""
        return names in (MEANS, COVARIANCES)

    @np.errstate(over="ignore", invalid="ignore")
    def maximize_holding(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """Means beside fixed covariances, which are the weighted means; second moments about fixed means."""
        found = self._estimated(stats, previous)
        if names == COVARIANCES:
            return previous.replace(means=found.means, empty=found.empty)
        rows = self._spread(found.weight)
        scatter = rows * found.covariances + self._scatter(found.means - previous.means, found.weight)
        covariances = np.where(rows > 0, scatter / np.where(rows > 0, rows, 1.0), found.covariances)
        sizes = self._sizes(stats, previous, previous.means)
        return self._assemble(previous, previous.means, covariances, found.empty, sizes)

    def ties(self, names: frozenset[str]) -> bool:
        """Covariances, unless they are shared already."""
        return names == COVARIANCES and not self._structure.shared

    @np.errstate(over="ignore", invalid="ignore")
    def maximize_tying(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """Covariances of all components together, each about its own mean."""
        found = self._estimated(stats, previous)
        rows = self._spread(found.weight)
        covariances = (rows * found.covariances).sum(axis=0, keepdims=True) / rows.sum()
        sizes = Sizes(*(_largest(values) for values in self._sizes(stats, previous, found.means)))
        every = np.repeat(covariances, len(found.means), axis=0)
        return self._assemble(previous, found.means, every, found.empty, sizes)

    # --- values that were not observed, or with noise ----------------------------------------------------------------

    @property
    def takes_row_noise(self) -> bool:
        """Whether nothing is held and no prior is there: `NoisyGaussian` knows neither."""
        return type(self) is Gaussian

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from each row's component (n,), given what was observed.

        With y drawn from the component, E[x_m | x_o] + y_m − E[y_m | y_o] has the conditional distribution (Matheron's
        rule; Journel & Huijbregts 1978, §VII.A.2).
        """
        chosen = np.eye(len(params.means))[component]
        y = drawn(self._structure, params, component, rng.standard_normal(x.shape))
        lacking = np.isnan(x)
        left = y - self.filled(params, np.where(lacking, np.nan, y), chosen)
        return np.where(lacking, self.filled(params, x, chosen) + left.astype(x.dtype), x)

    def slopes(self, params: Params) -> Slopes | None:
        """Closed form where covariances are matrices and rows complete; others have few numbers that interact."""
        if self._integrates or self.covariance_type not in ("full", "tied"):
            return None
        precisions = self.precisions(params)
        return GaussianSlopes(
            params.center, params.scale * params.means, precisions.reshape(-1, *precisions.shape[-2:])
        )

    # --- capabilities ------------------------------------------------------------------------------------------------

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """The fastest kernel that is accurate at these parameters, for rows of `dtype`."""
        if self._integrates:
            return incomplete_gaussians(self._structure, params, dtype)
        return choose_kernel(self._structure, params, dtype)

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the kernel runs at these parameters on rows of `dtype`, in words."""
        words = arithmetic(self._structure, params, dtype)
        return in_words(words) if self._integrates else words

    def screen(self, params: Params, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0) -> Mixing | None:
        """Active pairs only, where they are few enough and float32 scores or bounds tell them; of complete rows."""
        if self._integrates:
            return None
        return screen_of(self._structure, params, dtype, pairs_per_row, rows)

    def few_log_prob(self, params: Params, x: Array) -> Array | None:
        """Log-densities (n, K) of a few rows, where large matrices need not be packed for them."""
        return few_log_prob(self._structure, params, x)

    def far_log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d) whose squares may overflow, in nats; −∞ below what float64 holds."""
        return by_pattern(self._structure, params, x, lambda own, x: far_log_prob(self._residuals(own, x)))

    def far_order(self, params: Params, x: Array) -> Array:
        """Numbers (n, K) that order components where all of these are −∞."""
        return by_pattern(self._structure, params, x, lambda own, x: far_order(self._residuals(own, x)))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold, and what a screen holds beyond."""
        dense = workspace_bytes(self._structure, n_components, n_features)
        if self._integrates:
            return dense + incomplete_bytes(self._structure, dense, n_components, n_features)
        return dense + screen_bytes(self._structure, n_components, n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights, first and second moments in float64."""
        moments = n_statistics(self._structure, n_features) - 1 - n_features
        return 8 * (n_components * (1 + n_features) + moments * (1 if self._structure.shared else n_components))

    def penalty(self, params: Params, stats: Stats) -> float:
        """½·reg_covar·Σ_k n_k tr Σ_k⁻¹, in nats: what the M-step subtracts from the expected log-likelihood."""
        return float(np.sum(self._penalties(params, stats.weight)))

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Bound on how far `maximize` may have missed its maximum, in nats: rounding, and floors that have risen."""
        origin, sizes = origins(self._structure, old), self._sizes(stats, old, new.means)

        def objective(params: Params) -> Array:
            gained = expected_log_likelihood(self._structure, params, stats, origin)
            return gained - self._penalties(params, stats.weight).reshape(*gained.shape, -1).sum(axis=-1)

        return shortfall(self._structure, old, new, stats.weight, sizes, objective, self.together)

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """Moments about the origins that `old` implies (its anchor, or each mean) → those of `new`, exactly."""
        return self._moved(stats, old, new)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Moments of covariances that are positive definite."""
        return self._project_moments(stats, valid)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits."""
        mean, covariances = self.means(params)[component], self.covariances(params)
        if self.covariance_type in ("full", "tied"):
            own = covariances if self.covariance_type == "tied" else covariances[component]
            return np.asarray(rng.multivariate_normal(mean, own, count))
        noise = rng.standard_normal((count, len(mean)))
        return np.asarray(mean + noise * np.sqrt(covariances[component]))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _scatter(self, shift: Array, weight: Array) -> Array:
        """Weight times shift·shiftᵀ of every component, in the shape of the covariance type."""
        if self.covariance_type == "full":
            return np.asarray(weight[:, None, None] * shift[:, :, None] * shift[:, None, :])
        if self.covariance_type == "tied":
            return np.asarray((shift * weight[:, None]).T @ shift)
        return weight[:, None] * shift**2 if self.covariance_type == "diag" else weight * np.mean(shift**2, axis=1)

    def _spread(self, weight: Array) -> Array:
        """Weights (K,) as factors of covariances; their sum where one covariance serves all."""
        if self.covariance_type == "tied":
            return np.asarray(weight.sum())
        return np.asarray(weight.reshape(-1, *(1,) * {"full": 2, "diag": 1, "spherical": 0}[self.covariance_type]))

    def _estimated(self, stats: Stats, previous: Params) -> Params:
        """Means and covariances before the floor, which components are empty, and the weight (K,) of the others."""
        return self._estimate(stats, previous, empty_components(stats.weight))

    def _sizes(self, stats: Stats, previous: Params, means: Array) -> Sizes:
        """Mean squares of which the covariances are differences."""
        return self._sizes_of(stats, previous, means, empty_components(stats.weight))


def _largest(values: Array) -> Array:
    """For every component the largest number of any, feature by feature."""
    return np.broadcast_to(values.max(axis=0, keepdims=True), values.shape)
