"""Independent Poisson counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError
from streamem.core.faults import flags, missing, within
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.independent_columns import with_rows, without_holes
from streamem.families.linear_family import Coefficients, LinearFamily, first_means
from streamem.kernels.features.features import as_rows

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
        out, seen = np.empty(len(x)), without_holes(x) if self.integrates else x
        bad = kernels.log_factorials(as_rows(seen), kernels.LOG_FACTORIALS, out)
        if bad >= 0:
            raise ImpossibleValueError(
                float(x.flat[bad]),
                bad % x.shape[1],
                "Poisson counts are integers >= 0: leave the column out, or model it as Gaussian",
            )
        return out

    def coefficients(self, params: Params) -> Coefficients:
        """−λ and log λ."""
        rates, zero = params.rates, params.rates == 0
        slopes = np.log(np.where(zero, 1.0, rates))
        terms = (rates * (1 + 2 * np.abs(slopes))).sum(axis=1)
        return Coefficients(-rates, slopes, terms, np.zeros_like(rates), zero.astype(np.float64))

    def with_gamma_prior(self, stats: Stats, share: float, shape: Array, rate: Array) -> Stats:
        """Statistics with those of a share of a gamma prior: β rows that sum to α − 1."""
        return with_rows(stats, "x", share * rate, share * (shape - 1.0))

    def rates(self, params: Params) -> Array:
        """λ (K, d)."""
        return np.asarray(params.rates)

    def mean(self, params: Params) -> Array:
        """λ (K, d)."""
        return np.asarray(params.rates)

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
        known = self.means(stats)
        rates = known.means
        if previous is None:
            rates = first_means(np.where(known.absent, known.overall, rates), known.overall)
        else:
            zero = previous.rates == 0
            rates = np.where(zero, 0.0, np.maximum(rates, FLOOR))
            rates = np.where(known.absent, previous.rates, rates)
        return Params(rates=rates, empty=known.empty)
