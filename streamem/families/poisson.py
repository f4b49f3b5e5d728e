"""Independent Poisson counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError
from streamem.core.faults import flags, missing, within
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.empty_components import empty_components
from streamem.families.linear_family import LinearFamily, first_means
from streamem.kernels.features.features import as_rows
from streamem.kernels.features.linear_kernel import linear_kernel

Array = NDArray[Any]


class Poisson(LinearFamily):
    """Counts of d independent Poisson variables: log p(x) = Σ_j x_j log λ_j − λ_j − log x_j!.

    Notes
    -----
    Parameters: rates λ (K, d). A rate of exactly 0 can be given, and stays; an M-step makes none below 2⁻⁴⁰, the
    maximizer under that bound, so that no count ever becomes impossible. A component without rows keeps its rates.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Poisson
    >>> Poisson().log_prob(Params(rates=[[2.0]]), np.array([[3.0]])).round(4)
    array([[-1.7123]])
    """

    name = "rates"

    def measure(self, x: Array) -> Array:
        """−Σ_j log x_j! (n,).

        Raises
        ------
        ImpossibleValueError : a negative or fractional value
        """
        out = np.empty(len(x))
        bad = kernels.log_factorials(as_rows(x), kernels.LOG_FACTORIALS, out)
        if bad >= 0:
            raise ImpossibleValueError(
                float(x.flat[bad]),
                bad % x.shape[1],
                "Poisson counts are integers >= 0: leave the column out, or model it as Gaussian",
            )
        return out

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Products with log λ, in float64 whatever the rows."""
        rates, zero = params.rates, params.rates == 0
        slopes = np.log(np.where(zero, 1.0, rates))
        natural = np.column_stack([-rates.sum(axis=1), slopes])
        terms = (rates * (1 + 2 * np.abs(slopes))).sum(axis=1)
        forbidden = np.column_stack([np.zeros(len(rates)), zero])
        return linear_kernel(natural, terms, forbidden, self.measure)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Rates that are none."""
        shape = (n_components, n_features)
        return missing(params, ("rates", "empty")) or (
            within("rates", params.rates, shape, 0.0) + flags("empty", params.empty, shape[:1])
        )

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Counts (count, d) that a component emits."""
        rates = np.asarray(params.rates[component])
        return rng.poisson(rates, size=(count, len(rates))).astype(np.float64)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Weighted means."""
        empty = empty_components(stats.weight)
        rates = stats.x / np.where(empty, 1.0, stats.weight)[:, None]
        if previous is None:
            overall = (stats.x.sum(axis=0) + 0.5) / (stats.weight.sum() + 1.0)
            rates = first_means(np.where(empty[:, None], overall, rates), overall)
        else:
            zero = previous.rates == 0
            rates = np.where(zero, 0.0, np.maximum(rates, FLOOR))
            rates = np.where(empty[:, None], previous.rates, rates)
        return Params(rates=rates, empty=empty)
