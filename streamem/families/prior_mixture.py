"""Mixtures as components, whose weights have a prior or are held fixed."""

from __future__ import annotations

import zlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.gaussian.distribution import Gaussian
from streamem.families.mixture_family import MixtureFamily
from streamem.families.prior_scaling import Weighed

Array = NDArray[Any]


class PriorMixture(Weighed, MixtureFamily):
    """Mixtures of Gaussians with Dirichlet priors of their weights: w_km ∝ n_km + α_km − 1 (Gauvain & Lee 1994, §III).

    Parameters
    ----------
    family, n_mix : as in `MixtureFamily`; parts may have a prior of their own
    alpha : (K, M) numbers >= 1, or None for no prior
    holds_weights : leave the weights as they are
    total_weight : as in `Weighed`, of the parts too

    Notes
    -----
    A weight of 0 stays.
    """

    def __init__(self, family: Gaussian, n_mix: int, alpha: Array | None = None, holds_weights: bool = False) -> None:
        super().__init__(family, n_mix)
        self.alpha, self.holds_weights, self.total_weight = alpha, holds_weights, None
        self.identity = "" if alpha is None else f"{zlib.crc32(alpha.tobytes()):08x}"

    @property
    def is_surveyed(self) -> bool:
        """Whether a survey has found the weight of the data, or there is no prior."""
        return self.total_weight is not None or (self.alpha is None and self.family.is_surveyed)

    def weighed(self, total_weight: float | None) -> Self:
        """The family and its parts with their priors weighed against so much data."""
        known = super().weighed(total_weight)
        if isinstance(self.family, Weighed):
            known.family = self.family.weighed(total_weight)
        return known

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Weights of rows and prior together; the family maximizes the rest."""
        found = super().maximize(stats, previous)
        if self.holds_weights:
            return found.replace(weights=previous.weights)
        if self.alpha is None:
            return found
        counts = np.where(previous.weights > 0, stats.weight + self.share(stats.weight) * (self.alpha - 1.0), 0.0)
        total = counts.sum(axis=1, keepdims=True)
        return found.replace(weights=np.where(total > 0, counts / np.where(total > 0, total, 1.0), found.weights))

    def penalty(self, params: Params, stats: Stats) -> float:
        """Penalty of the parts, and −Σ (α − 1) log w, in nats, or its share."""
        own = super().penalty(params, stats)
        if self.alpha is None:
            return own
        w = np.asarray(params.weights)
        logs = np.log(np.where(w > 0, w, 1.0))
        return own - self.share(stats.weight) * float(np.sum((self.alpha - 1.0) * logs))
