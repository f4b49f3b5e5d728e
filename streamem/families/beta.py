"""Independent beta variables."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, polygamma, psi

from streamem.core.arrays import Params
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.shape_bounds import LEAST, MOST, STEPS
from streamem.families.support import UNIT_INTERVAL

Array = NDArray[Any]


class Beta(ExponentialFamily):
    """d independent beta variables: log p(x) = Σ_j (a_j − 1) log x_j + (b_j − 1) log(1 − x_j) − log B(a_j, b_j).

    SciPy's `beta` with ``a`` and ``b``.

    Notes
    -----
    Parameters: alphas a and betas b (K, d). The M-step solves ψ(a) − ψ(a + b) = mean of log x and ψ(b) − ψ(a + b) =
    mean of log(1 − x) by Newton steps that are halved until the log-likelihood rises (Minka 2000, "Estimating a
    Dirichlet distribution", §1; it is concave). a + b ends at 2²⁶, which is then the maximizer on that line
    ("floored"). A component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Beta
    >>> Beta().log_prob(Params(alphas=[[2.0]], betas=[[3.0]]), np.array([[0.25]])).round(4)
    array([[0.5232]])
    """

    features = ("log x", "log(1-x)")
    bounds: ClassVar[Bounds] = {"alphas": (0.0, np.inf), "betas": (0.0, np.inf)}
    support = UNIT_INTERVAL
    needed = "beta values lie between 0 and 1, both excluded: rescale the column, and move zeros and ones inwards"

    def natural(self, params: Params) -> Array:
        """(a − 1, b − 1) (K, d, 2)."""
        return np.stack([params.alphas - 1.0, params.betas - 1.0], axis=-1)

    def log_partition(self, params: Params) -> Array:
        """log B(a, b) (K, d)."""
        return np.asarray(betaln(params.alphas, params.betas))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """Newton's steps from the parameters before, or from moments of x that the means of logarithms suggest."""
        g, h = means[..., 0], means[..., 1]
        a, b = _maximum(g, h, *_first(g, h, previous))
        over = ~(a + b < MOST)
        share = _share_at(MOST, g - h)
        return Params(
            alphas=np.where(over, MOST * share, a), betas=np.where(over, MOST * (1.0 - share), b), floored=over
        )

    def mean(self, params: Params) -> Array:
        """a/(a + b) (K, d)."""
        return np.asarray(params.alphas / (params.alphas + params.betas))

    def typical(self, params: Params) -> Array:
        """The mean, off 0 and 1 (K, d)."""
        return np.clip(self.mean(params), 1e-6, 1.0 - 1e-6)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Values (count, d) that a component emits."""
        a, b = (np.asarray(params[name][component]) for name in ("alphas", "betas"))
        least = np.finfo(np.float64)
        return np.clip(rng.beta(a, b, size=(count, len(a))), least.tiny, 1.0 - least.epsneg)


def _first(g: Array, h: Array, previous: Params | None) -> tuple[Array, Array]:
    if previous is not None:
        return np.asarray(previous.alphas), np.asarray(previous.betas)
    # For concentrated values exp(g) and exp(h) fall short of x̄ and 1 − x̄ by var(x)/(2 x̄) and var(x)/(2 (1 − x̄)).
    low, high = np.exp(g), np.exp(h)
    total = np.clip(0.5 / np.maximum(1.0 - low - high, 0.25 / MOST), 1.0, MOST)
    return total * low / (low + high) + 0.5, total * high / (low + high) + 0.5


def _value(a: Array, b: Array, g: Array, h: Array) -> Array:
    return np.asarray(a * g + b * h - betaln(a, b))


def _maximum(g: Array, h: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Newton's steps in (log a, log b), halved while they lower a·g + b·h − log B(a, b)."""
    value = _value(a, b, g, h)
    for _ in range(STEPS):
        step_a, step_b = _newton(a, b, g, h)
        factor = np.ones_like(a)
        for _ in range(50):
            next_a = np.clip(a * np.exp(factor * step_a), LEAST, 2 * MOST)
            next_b = np.clip(b * np.exp(factor * step_b), LEAST, 2 * MOST)
            after = _value(next_a, next_b, g, h)
            worse = ~(after >= value)
            if not worse.any():
                break
            factor = np.where(worse, 0.5 * factor, factor)
        better = after >= value
        moved = better & ((np.abs(next_a - a) > 4e-16 * a) | (np.abs(next_b - b) > 4e-16 * b))
        a, b, value = np.where(better, next_a, a), np.where(better, next_b, b), np.where(better, after, value)
        if not moved.any():
            break
    return a, b


def _newton(a: Array, b: Array, g: Array, h: Array) -> tuple[Array, Array]:
    """Steps (log a, log b) of at most 1: by the Hessian where that is negative definite, else up the slope."""
    both, both_trigamma = psi(a + b), polygamma(1, a + b)
    slope_a, slope_b = a * (g - psi(a) + both), b * (h - psi(b) + both)
    aa = a * a * (both_trigamma - polygamma(1, a)) + slope_a
    bb = b * b * (both_trigamma - polygamma(1, b)) + slope_b
    ab = a * b * both_trigamma
    determinant = aa * bb - ab * ab
    definite = (determinant > 0) & (aa < 0)
    safe = np.where(definite, determinant, 1.0)
    step_a = np.where(definite, -(bb * slope_a - ab * slope_b) / safe, slope_a)
    step_b = np.where(definite, -(aa * slope_b - ab * slope_a) / safe, slope_b)
    largest = np.maximum(1.0, np.maximum(np.abs(step_a), np.abs(step_b)))
    return step_a / largest, step_b / largest


def _share_at(total: float, difference: Array) -> Array:
    """a/total of the maximizer on the line a + b = total, where ψ(a) − ψ(b) is the difference: by bisection."""
    low, high = np.zeros_like(difference), np.ones_like(difference)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = psi(total * middle) - psi(total * (1.0 - middle)) > difference
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.clip(0.5 * (low + high), 1e-15, 1.0 - 1e-15)
