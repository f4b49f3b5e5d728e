"""Poisson counts whose rates have a gamma prior."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.independent_columns import column_weights
from streamem.families.poisson import Poisson
from streamem.families.prior_scaling import Weighed

Array = NDArray[Any]


class PriorPoisson(Weighed, Poisson):
    """Poisson components whose M-step is λ_k = (α + n x̄_k) / (β + n), as hmmlearn's, with n the weight of all rows.

    Parameters
    ----------
    shape, rate : (K, d) α and β, both >= 0
    total_weight : as in `Weighed`

    Notes
    -----
    A gamma prior would count n_k rows where this counts n. What this maximizes is the expected log-likelihood minus
    Σ_k (n_k / n) Σ_j (β λ_kj − α log λ_kj), which is what the `penalty` says: each component gets its share of α and β.
    """

    def __init__(self, shape: Array, rate: Array, total_weight: float | None = None) -> None:
        self.shape, self.rate, self.total_weight = shape, rate, total_weight
        self.identity = f"{zlib.crc32(np.stack([shape, rate]).tobytes()):08x}"

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Means of the rows and of the prior, weighed against each other."""
        self.share(stats.weight)  # which refuses to guess how much data there is
        free = super().maximize(stats, previous)
        alpha, beta = self.shape / self.total_weight, self.rate / self.total_weight
        seen = (
            column_weights(stats, stats.x) / np.where(free.empty, 1.0, stats.weight)[:, None]
            if self.integrates
            else 1.0
        )
        rates = np.where(free.rates == 0, 0.0, np.maximum((alpha + seen * free.rates) / (seen + beta), FLOOR))
        return free.replace(rates=np.where(free.empty[:, None], free.rates, rates))

    def penalty(self, params: Params, stats: Stats) -> float:
        """Σ_k (n_k / n) Σ_j (β λ_kj − α log λ_kj), in nats, but for rates of 0, which stay."""
        rates = np.asarray(params.rates)
        logs = np.log(np.where(rates > 0, rates, 1.0))
        shares = np.asarray(stats.weight)[:, None] * self.share(stats.weight) / np.sum(stats.weight)
        return float(np.sum(shares * (self.rate * rates - self.shape * logs)))
