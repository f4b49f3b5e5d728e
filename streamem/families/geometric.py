"""Independent geometric counts of trials."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.families.covariance_floor import FLOOR
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.support import TRIALS

Array = NDArray[Any]


class Geometric(ExponentialFamily):
    """d independent numbers of trials up to the first success: log p(x) = Σ_j log p_j + (x_j − 1) log(1 − p_j).

    SciPy's `geom` with ``p``; x = 1, 2, …

    Notes
    -----
    Parameters: probabilities p (K, d). An M-step makes none outside of 2⁻⁴⁰ … 1 − 2⁻⁴⁰, the maximizer under that bound,
    so that no number ever becomes impossible. A component without rows keeps its probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Geometric
    >>> Geometric().log_prob(Params(probabilities=[[0.5]]), np.array([[3.0]])).round(4)
    array([[-2.0794]])
    """

    features = ("x",)
    bounds: ClassVar[Bounds] = {"probabilities": (0.0, 1.0)}
    support = TRIALS
    needed = (
        "geometric values count trials up to the first success and are integers >= 1: add 1 to counts of failures, or "
        "model the column as NegativeBinomial"
    )

    def natural(self, params: Params) -> Array:
        """log(1 − p) (K, d, 1)."""
        return np.log1p(-_inner(params))[..., None]

    def log_partition(self, params: Params) -> Array:
        """log(1 − p) − log p (K, d)."""
        p = _inner(params)
        return np.asarray(np.log1p(-p) - np.log(p))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """p = 1/x̄."""
        return Params(probabilities=np.clip(1.0 / means[..., 0], FLOOR, 1.0 - FLOOR))

    def mean(self, params: Params) -> Array:
        """1/p (K, d)."""
        return 1.0 / _inner(params)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Numbers (count, d) that a component emits."""
        p = _inner(params)[component]
        return np.floor(np.log1p(-rng.uniform(size=(count, len(p)))) / np.log1p(-p)) + 1.0


def _inner(params: Params) -> Array:
    """Probabilities within what an M-step makes: 0 and 1 that a user gave have no logarithms."""
    return np.clip(np.asarray(params.probabilities), FLOOR, 1.0 - FLOOR)
