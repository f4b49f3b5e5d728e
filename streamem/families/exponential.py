"""Independent exponential waiting times."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.independent_columns import with_rows
from streamem.families.support import NOT_NEGATIVE

Array = NDArray[Any]


class Exponential(ExponentialFamily):
    """d independent exponential variables: log p(x) = Σ_j −log s_j − x_j / s_j (SciPy's `expon` with ``scale`` s).

    Notes
    -----
    Parameters: scales s (K, d), the means. An M-step makes none below 2⁻⁴⁰ of the column's mean over all rows, the
    maximizer under that bound ("floored"). A component without rows keeps its scales.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Exponential
    >>> Exponential().log_prob(Params(scales=[[2.0]]), np.array([[3.0]])).round(4)
    array([[-2.1931]])
    """

    features = ("x",)
    bounds: ClassVar[Bounds] = {"scales": (0.0, np.inf)}
    support = NOT_NEGATIVE
    needed = "exponential values are numbers >= 0: leave the column out, or model it as Gaussian"

    def natural(self, params: Params) -> Array:
        """−1/s (K, d, 1)."""
        return -1.0 / np.asarray(params.scales)[..., None]

    def log_partition(self, params: Params) -> Array:
        """log s (K, d)."""
        return np.log(params.scales)

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """s = x̄."""
        least = np.maximum(FLOOR * overall[:, 0], np.finfo(np.float64).tiny)
        return Params(scales=np.maximum(means[..., 0], least), floored=means[..., 0] < least)

    def with_gamma_prior(self, stats: Stats, share: float, shape: Array, rate: Array) -> Stats:
        """Statistics with those of a share of a gamma prior of 1/s: α − 1 rows that sum to β."""
        sums = np.broadcast_to(share * rate, stats.sums.shape[:2])[..., None]
        return with_rows(stats, "sums", share * (shape - 1.0), sums)

    def rates(self, params: Params) -> Array:
        """1/s (K, d)."""
        return 1.0 / np.asarray(params.scales)

    def mean(self, params: Params) -> Array:
        """s (K, d)."""
        return np.asarray(params.scales)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Values (count, d) that a component emits."""
        scales = np.asarray(params.scales[component])
        return np.asarray(rng.exponential(scales, size=(count, len(scales))))
