"""Independent gamma variables."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, polygamma, psi

from streamem.core.arrays import Params
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.shape_bounds import LEAST, MOST, root_of
from streamem.families.support import POSITIVE

Array = NDArray[Any]


class Gamma(ExponentialFamily):
    """d independent gamma variables: log p(x) = Σ_j (a_j − 1) log x_j − x_j / s_j − a_j log s_j − log Γ(a_j).

    SciPy's `gamma` with shape ``a`` and ``scale`` s.

    Notes
    -----
    Parameters: shapes a and scales s (K, d). M-step (Minka 2002, "Estimating a Gamma distribution", eq. 4–9): the mean
    is a·s = x̄, and log a − ψ(a) = log x̄ − mean of log x is solved by safeguarded Newton steps. Shapes end at 2²⁶, which
    is the maximizer under that bound ("floored"). A component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Gamma
    >>> Gamma().log_prob(Params(shapes=[[2.0]], scales=[[3.0]]), np.array([[1.5]])).round(4)
    array([[-2.2918]])
    """

    features = ("x", "log x")
    bounds: ClassVar[Bounds] = {"shapes": (LEAST / 2, 2 * MOST), "scales": (0.0, np.inf)}
    support = POSITIVE
    needed = "gamma values are numbers > 0: leave zeros out, or model the column as Gaussian"

    def natural(self, params: Params) -> Array:
        """(−1/s, a − 1) (K, d, 2)."""
        return np.stack([-1.0 / params.scales, params.shapes - 1.0], axis=-1)

    def log_partition(self, params: Params) -> Array:
        """a log s + log Γ(a) (K, d)."""
        return np.asarray(params.shapes * np.log(params.scales) + gammaln(params.shapes))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """Shapes from the gap between log x̄ and the mean of log x; scales x̄ / a."""
        gap = np.log(means[..., 0]) - means[..., 1]
        known = np.maximum(gap, 0.25 / MOST)
        first = (3.0 - known + np.sqrt((known - 3.0) ** 2 + 24.0 * known)) / (12.0 * known)
        shapes = root_of(lambda a: _excess(a, gap), first, LEAST, MOST)
        return Params(shapes=shapes, scales=means[..., 0] / shapes, floored=shapes >= 0.999 * MOST)

    held_alone, tied_alone = ("shapes", "scales"), ("shapes",)

    def beside(self, means: Array, overall: Array, previous: Params, names: frozenset[str]) -> Params:
        """Scales x̄ / a for fixed shapes; for fixed scales the shapes of which ψ(a) is the mean of log x, less log s."""
        if "shapes" in names:
            return Params(shapes=previous.shapes, scales=means[..., 0] / previous.shapes)
        target = means[..., 1] - np.log(previous.scales)
        shapes = root_of(lambda a: (target - psi(a), -a * polygamma(1, a)), previous.shapes, LEAST, MOST)
        return Params(shapes=shapes, scales=previous.scales, floored=shapes >= 0.999 * MOST)

    def alike(self, means: Array, shares: Array) -> Array:
        """Means of log x with one gap below log x̄, the mean of all gaps, from which alone the shape follows."""
        high = np.log(means[..., 0])
        gap = (shares * (high - means[..., 1])).sum(axis=0)
        return np.stack([means[..., 0], high - gap], axis=-1)

    def mean(self, params: Params) -> Array:
        """a·s (K, d)."""
        return np.asarray(params.shapes * params.scales)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Values (count, d) that a component emits."""
        shapes, scales = (np.asarray(params[name][component]) for name in ("shapes", "scales"))
        drawn = rng.gamma(shapes, scales, size=(count, len(shapes)))
        return np.maximum(drawn, np.finfo(np.float64).tiny)  # of tiny shapes a draw may round to 0


def _excess(a: Array, gap: Array) -> tuple[Array, Array]:
    """log a − ψ(a) − gap, which falls with a, and its derivative by log a; by series where both are large."""
    large = a > 1e4
    far, near = np.where(large, a, 1e4), np.where(large, 1.0, a)
    value = np.where(large, 0.5 / far + 1.0 / (12.0 * far**2), np.log(near) - psi(near))
    slope = np.where(large, -0.5 / far - 1.0 / (6.0 * far**2), 1.0 - near * polygamma(1, near))
    return value - gap, slope
