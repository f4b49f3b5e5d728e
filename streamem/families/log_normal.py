"""Independent log-normal variables."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.families.covariance_floor import floor_of
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.support import POSITIVE

Array = NDArray[Any]


class LogNormal(ExponentialFamily):
    """d independent variables whose logarithms are normal: log p(x) = Σ_j −log(x_j s_j √2π) − (log x_j/m_j)²/(2 s_j²).

    SciPy's `lognorm` with shape ``s`` and ``scale`` m: log x has the mean log m and the standard deviation s.

    Notes
    -----
    Parameters: shapes s and scales m (K, d). The M-step is that of a normal distribution of log x; variances of log x
    end at 2⁻⁴⁰, or above their rounding where logarithms are large, the maximizer under that bound ("floored"). A
    component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import LogNormal
    >>> LogNormal().log_prob(Params(shapes=[[0.5]], scales=[[3.0]]), np.array([[1.5]])).round(4)
    array([[-1.5922]])
    """

    features = ("log x", "(log x)^2")
    bounds: ClassVar[Bounds] = {"shapes": (0.0, np.inf), "scales": (0.0, np.inf)}
    support = POSITIVE
    needed = "log-normal values are numbers > 0: leave zeros out, or model the column as Gaussian"

    def natural(self, params: Params) -> Array:
        """(log m / s² − 1, −1/(2 s²)) (K, d, 2); the −1 is the 1/x of the density."""
        precision = 1.0 / np.square(params.shapes)
        return np.stack([precision * np.log(params.scales) - 1.0, -0.5 * precision], axis=-1)

    def log_partition(self, params: Params) -> Array:
        """(log m)²/(2 s²) + log(s √2π) (K, d)."""
        quadratic = 0.5 * (np.log(params.scales) / params.shapes) ** 2
        return np.asarray(quadratic + np.log(params.shapes) + 0.5 * np.log(2 * np.pi))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """Mean and variance of log x."""
        center, square = means[..., 0], means[..., 1]
        variance, floor = square - center**2, floor_of(overall[:, 1], EPS, 1)
        shapes = np.sqrt(np.maximum(variance, floor))
        return Params(shapes=shapes, scales=np.exp(center), floored=variance < floor)

    held_alone, tied_alone = ("shapes", "scales"), ("shapes",)

    def beside(self, means: Array, overall: Array, previous: Params, names: frozenset[str]) -> Params:
        """The mean of log x for fixed shapes; its mean square about log m for fixed scales m."""
        if "shapes" in names:
            return Params(shapes=previous.shapes, scales=np.exp(means[..., 0]))
        origin, floor = np.log(previous.scales), floor_of(overall[:, 1], EPS, 1)
        variance = means[..., 1] - 2.0 * origin * means[..., 0] + origin**2
        shapes = np.sqrt(np.maximum(variance, floor))
        return Params(shapes=shapes, scales=previous.scales, floored=variance < floor)

    def alike(self, means: Array, shares: Array) -> Array:
        """Mean squares of log x with one variance, the mean of all variances."""
        center = means[..., 0]
        variance = (shares * (means[..., 1] - center**2)).sum(axis=0)
        return np.stack([center, center**2 + variance], axis=-1)

    def mean(self, params: Params) -> Array:
        """m exp(s²/2) (K, d)."""
        return np.asarray(params.scales * np.exp(0.5 * np.square(params.shapes)))

    def typical(self, params: Params) -> Array:
        """Values a standard deviation of log x above the median (K, d)."""
        return np.asarray(params.scales * np.exp(np.minimum(params.shapes, 30.0)))

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Values (count, d) that a component emits."""
        shapes, scales = (np.asarray(params[name][component]) for name in ("shapes", "scales"))
        return np.asarray(scales * np.exp(shapes * rng.standard_normal((count, len(shapes)))))
