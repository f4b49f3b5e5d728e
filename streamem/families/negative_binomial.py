"""Independent counts that vary more than Poisson counts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.independent_columns import weighted_moments, without_holes
from streamem.families.shape_bounds import LEAST, MOST, root_of
from streamem.families.support import COUNTS
from streamem.kernels.features.features import as_rows
from streamem.kernels.features.transforms import FeatureTable, features_of_columns, with_rising

Array = NDArray[Any]


class NegativeBinomial(ExponentialFamily):
    """d independent negative binomial counts of mean m and size r: the variance is m + m²/r.

    SciPy's `nbinom` with ``n`` = r (any number > 0) and ``p`` = r/(r + m): log p(x) = Σ_j log Γ(x_j + r_j) − log Γ(r_j)
    − log x_j! + r_j log p_j + x_j log(1 − p_j).

    Notes
    -----
    Parameters: sizes r and means m (K, d); the mean instead of p, whose distance from 1 float64 would not hold where
    counts are nearly Poisson. log Γ(x + r) has no statistic of fixed size, but a count is a sum of L logarithmic
    variables, L Poisson (Quenouille 1949), and the expectation of L given x is r (ψ(x + r) − ψ(r)) (Antoniak 1974; Zhou
    & Carin 2015, eq. 11). EM with L as another hidden variable is exact and monotone: m = x̄, and r solves r log(1 +
    m/r) = mean of L by safeguarded Newton steps. Where counts are nearly Poisson r grows without bound, ever slower;
    it ends at 2²⁶ ("floored"). A component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import NegativeBinomial
    >>> NegativeBinomial().log_prob(Params(sizes=[[2.0]], means=[[3.0]]), np.array([[4.0]])).round(4)
    array([[-2.2664]])
    """

    features = ("x",)
    bounds: ClassVar[Bounds] = {"sizes": (0.0, np.inf), "means": (0.0, np.inf)}
    support = COUNTS
    needed = "negative binomial counts are integers >= 0: leave the column out, or model it as Gaussian"

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """Sizes that the moments of all rows suggest: the first statistics need some."""
        means, variances = weighted_moments(x, weight)
        sizes = np.clip(means**2 / np.maximum(variances - means, 1e-3 * means + FLOOR), 0.1, 1e3)
        both = (np.tile(values, (n_components, 1)) for values in (sizes, np.maximum(means, FLOOR)))
        sizes, means = both
        return Params(sizes=sizes, means=means, crude=np.bool_(True))

    def table(self, params: Params | None, d: int) -> FeatureTable:
        """x of every column; for each component and column log Γ(x + r) − log Γ(r) − x log r and the mean of L."""
        table = features_of_columns(self.features, d, self.integrates)
        if params is None:
            raise ValueError("statistics of negative binomial counts need sizes: those of start")
        sizes = np.asarray(params.sizes, dtype=np.float64)
        return with_rising(table, np.tile(np.arange(d), len(sizes)), sizes.ravel())

    def coefficients(self, params: Params) -> Array:
        """Coefficients of the linear part, and 1 for the component's own log Γ."""
        linear = super().coefficients(params)
        k, d = self._shape(params)
        own = np.zeros((k, k, d, 2))
        own[np.arange(k), np.arange(k), :, 0] = 1.0
        return np.hstack([linear, own.reshape(k, -1)])

    def natural(self, params: Params) -> Array:
        """log(m r/(r + m)) (K, d, 1)."""
        means = np.maximum(params.means, FLOOR)
        return np.asarray(np.log(means) - np.log1p(means / params.sizes))[..., None]

    def log_partition(self, params: Params) -> Array:
        """−r log p (K, d)."""
        return np.asarray(params.sizes * np.log1p(np.maximum(params.means, FLOOR) / params.sizes))

    def base(self, x: Array) -> Array:
        """−Σ_j log x_j! (n,)."""
        out = np.empty(len(x))
        kernels.log_factorials(as_rows(without_holes(x) if self.integrates else x), kernels.LOG_FACTORIALS, out)
        return out

    def as_stats(self, sums: Array) -> Stats:
        """weight, sums (K, d, 2) of x and of the expectation of L, and perhaps observed."""
        k, own = len(sums), 1 + self.integrates
        d = (sums.shape[1] - 1) // (own + 2 * k)
        linear = super().as_stats(sums[:, : 1 + d * own])
        expected = sums[:, 1 + d * own :].reshape(k, k, d, 2)[np.arange(k), np.arange(k), :, 1]
        return linear.replace(sums=np.stack([linear.sums[..., 0], expected], axis=-1))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """m = x̄; r from the mean of L."""
        mean, tables = np.maximum(means[..., 0], FLOOR), means[..., 1]
        before = np.ones_like(mean) if previous is None else np.asarray(previous.sizes)

        def lacking(r: Array) -> tuple[Array, Array]:
            rate = np.log1p(mean / r)
            return tables - r * rate, -r * (rate - mean / (r + mean))

        sizes = root_of(lacking, np.clip(before, LEAST, MOST), LEAST, MOST)
        nothing = ~(means[..., 0] > FLOOR)  # zeros alone say nothing of r
        return Params(sizes=np.where(nothing, before, sizes), means=mean, floored=~nothing & (sizes >= 0.999 * MOST))

    def mean(self, params: Params) -> Array:
        """m (K, d)."""
        return np.asarray(params.means)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Counts (count, d) that a component emits: Poisson counts of gamma rates."""
        sizes, means = (np.asarray(params[name][component]) for name in ("sizes", "means"))
        return rng.poisson(rng.gamma(sizes, means / sizes, size=(count, len(sizes)))).astype(np.float64)

    def n_features(self, n_components: int, n_columns: int) -> int:
        """F: of x, and of two functions for every component and column."""
        return super().n_features(n_components, n_columns) + 2 * n_components * n_columns

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights and two sums in float64."""
        return 8 * n_components * (1 + n_features * (2 + self.integrates))
