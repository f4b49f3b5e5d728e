"""Independent Weibull variables."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.independent_columns import weighted_moments
from streamem.families.shape_bounds import LEAST
from streamem.families.support import POSITIVE
from streamem.kernels.features.transforms import FeatureTable, features_of_columns, with_powers

Array = NDArray[Any]

MOST = 2.0**20
"""Largest shape."""


class Weibull(ExponentialFamily):
    """d independent Weibull variables: log p(x) = Σ_j log(c_j/s_j) + (c_j − 1) log(x_j/s_j) − (x_j/s_j)^c_j.

    SciPy's `weibull_min` with shape ``c`` and ``scale`` s.

    Notes
    -----
    Parameters: shapes c, scales s (K, d), and trials (K, d), shapes that the last M-step proposes. Σ x^c has no
    statistic of fixed size that serves every c, so an E-step takes it, with its first two derivatives, at the present
    shape and at the one proposed. The M-step knows the expected log-likelihood at both exactly, each with its best
    scale s^c = mean of x^c, takes the better, and proposes a Newton step from there (Menon 1963 has the equation), or a
    quarter of the last one if that was refused: a generalized M-step, which never lowers the likelihood and reaches the
    maximum at the speed of Newton's steps. Averages of statistics (stepwise EM) mix those of several shapes and are
    approximate. Shapes end at 2²⁰ ("floored"). A component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Weibull
    >>> Weibull().log_prob(Params(shapes=[[2.0]], scales=[[3.0]]), np.array([[1.5]])).round(4)
    array([[-1.3486]])
    """

    features = ("log x", "(log x)^2")
    bounds: ClassVar[Bounds] = {
        "shapes": (LEAST / 2, 2 * MOST),
        "scales": (0.0, np.inf),
        "trials": (LEAST / 2, 2 * MOST),
    }
    support = POSITIVE
    needed = "Weibull values are numbers > 0: leave zeros out, or model the column as Gaussian"

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """What the moments of the logarithms of all rows suggest: the first statistics need a shape."""
        self.measure(x)
        center, variance = weighted_moments(np.log(x), weight)
        shapes, scales = _of_logarithms(center, variance)
        every = {
            name: np.tile(value, (n_components, 1))
            for name, value in (("shapes", shapes), ("scales", scales), ("trials", shapes))
        }
        return Params(**every, crude=np.bool_(True))

    def table(self, params: Params | None, d: int) -> FeatureTable:
        """Logarithms, and powers at two shapes for every component and column."""
        table = features_of_columns(self.features, d, self.integrates)
        if params is None:
            raise ValueError("statistics of Weibull values need shapes: those of start")
        powers = np.stack([params.shapes, params.get("trials", params.shapes)], axis=-1)
        shifts = np.repeat(np.log(params.scales)[..., None], 2, axis=-1)
        columns = np.tile(np.repeat(np.arange(d), 2), len(powers))
        return with_powers(table, columns, powers.ravel(), shifts.ravel())

    def coefficients(self, params: Params) -> Array:
        """Coefficients of the logarithms, and −1 for the component's own power."""
        linear = super().coefficients(params)
        k, d = self._shape(params)
        own = np.zeros((k, k, d, 6))
        own[np.arange(k), np.arange(k), :, 0] = -1.0
        return np.hstack([linear, own.reshape(k, -1)])

    parameter_names = ("shapes", "scales")

    def natural(self, params: Params) -> Array:
        """(c − 1, 0) (K, d, 2)."""
        return np.stack([params.shapes - 1.0, np.zeros_like(params.shapes)], axis=-1)

    def log_partition(self, params: Params) -> Array:
        """c log s − log c (K, d)."""
        return np.asarray(params.shapes * np.log(params.scales) - np.log(params.shapes))

    def as_stats(self, sums: Array) -> Stats:
        """weight, perhaps observed, and sums (K, d, 8): log x, its square; t, t·l, t·l² of t = exp(c·l) for both c."""
        k, own = len(sums), 2 + self.integrates
        d = (sums.shape[1] - 1) // (own + 6 * k)
        linear = super().as_stats(sums[:, : 1 + d * own])
        powers = sums[:, 1 + d * own :].reshape(k, k, d, 6)[np.arange(k), np.arange(k)]
        return linear.replace(sums=np.concatenate([linear.sums, powers], axis=-1))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """The better of two shapes, its scale, and the next proposal."""
        if previous is None or "crude" in previous:
            shapes, scales = _of_logarithms(means[..., 0], means[..., 1] - means[..., 0] ** 2)
            return Params(shapes=shapes, scales=scales, trials=shapes)
        before, trial = np.asarray(previous.shapes), np.asarray(previous.get("trials", previous.shapes))
        center = means[..., 0] - np.log(previous.scales)
        better = _profile(trial, center, means[..., 5]) > _profile(before, center, means[..., 2])
        shapes = np.where(better, trial, before)
        power, first, second = (np.where(better, means[..., 5 + i], means[..., 2 + i]) for i in range(3))
        mean = first / power
        rise = 1.0 + shapes * (center - mean)
        step = np.clip(rise / (1.0 + shapes**2 * np.maximum(second / power - mean**2, 0.0)), -1.0, 1.0)
        refused = ~better & (trial != before)
        most = np.where(refused, 0.25 * np.abs(np.log(trial / before)), 1.0)
        proposed = np.clip(shapes * np.exp(np.clip(step, -most, most)), LEAST, MOST)
        scales = previous.scales * np.exp(np.log(power) / shapes)
        return Params(shapes=shapes, scales=scales, trials=proposed, floored=shapes >= 0.999 * MOST)

    def mean(self, params: Params) -> Array:
        """s Γ(1 + 1/c) (K, d)."""
        return np.asarray(params.scales * np.exp(np.minimum(gammaln(1.0 + 1.0 / params.shapes), 600.0)))

    def typical(self, params: Params) -> Array:
        """s (K, d)."""
        return np.asarray(params.scales)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Values (count, d) that a component emits."""
        shapes, scales = (np.asarray(params[name][component]) for name in ("shapes", "scales"))
        return np.maximum(scales * rng.weibull(shapes, size=(count, len(shapes))), np.finfo(np.float64).tiny)

    def free_parameters(self, params: Params) -> int:
        """Shapes and scales; proposals are none."""
        return 2 * int(np.size(params.shapes))

    def n_features(self, n_components: int, n_columns: int) -> int:
        """F: of two logarithms, and of six functions for every component and column."""
        return super().n_features(n_components, n_columns) + 6 * n_components * n_columns

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights and eight sums in float64."""
        return 8 * n_components * (1 + n_features * (8 + self.integrates))


def _of_logarithms(center: Array, variance: Array) -> tuple[Array, Array]:
    """Shape and scale: log x is Gumbel with the mean log s − γ/c and the variance π²/(6 c²)."""
    shapes = np.clip(np.pi / np.sqrt(6.0 * np.maximum(variance, 1e-9)), LEAST, MOST)
    return shapes, np.exp(center + np.euler_gamma / shapes)


def _profile(shape: Array, center: Array, power: Array) -> Array:
    """Mean log-density at a shape and its best scale, up to a constant: log c + c·(mean of l) − log(mean of t)."""
    return np.asarray(np.log(shape) + shape * center - np.log(power))
