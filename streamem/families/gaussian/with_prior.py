"""Gaussian components with a prior."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.rounding import SAFETY
from streamem.families.prior_scaling import Weighed

Array = NDArray[Any]


class PriorGaussian(Weighed, HeldGaussian):
    """Gaussian components N(m_k, Σ_k) whose M-step maximizes the posterior of a `GaussianPrior`.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    prior : in units of the data
    held, together : as in `HeldGaussian`
    total_weight : as in `Weighed`

    Notes
    -----
    m = (λ μ + n x̄) / (λ + n) and Σ = (S + λ (m − μ)(m − μ)ᵀ + Σ_i r_i (x_i − m)(x_i − m)ᵀ) / (c + n), whichever the
    covariance type (Gauvain & Lee 1994, eqs. 20–23, with degrees of freedom as hmmlearn counts them). A component
    without rows gets what the prior says of it, and keeps the rest.
    """

    def __init__(
        self,
        covariance_type: str,
        reg_covar: float,
        prior: GaussianPrior,
        held: str = "nothing",
        together: int = 1,
        total_weight: float | None = None,
    ) -> None:
        super().__init__(covariance_type, reg_covar, held, together)
        self.prior, self.total_weight, self.identity = prior, total_weight, prior.identity

    def _penalties(self, params: Params, weight: Array) -> Array:
        """Penalty of `reg_covar`, and minus the log-density of the prior up to a constant, in nats, or its share."""
        k, d = params.means.shape
        factor, copies = params.precisions_cholesky, d if self._structure.isotropic else 1
        away, pull = params.means - self._target(params), self.prior.means_weight[:, None]
        each = self.covariance_type == "diag"  # whose features may have counts of their own
        log_det = -2.0 * (np.log(factor) if each else self._structure.log_det(factor, d))
        counted = self.prior.count * log_det.reshape(self.prior.count.shape)
        precise = self._anchored_scatter(params) * self._structure.precisions(factor) * copies
        pulled = pull * away * self._structure.precision_times(factor, away)
        blocks = (1, -1) if self._structure.shared else (k, -1)  # what all share comes in equal parts
        shared = counted.reshape(blocks).sum(axis=1) + precise.reshape(blocks).sum(axis=1)
        prior = 0.5 * (shared * (len(shared) / k) + pulled.sum(axis=1))
        return np.asarray(super()._penalties(params, weight) + self.share(weight) * prior)

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """The shortfall without a prior, and the rounding of the prior's log-density, whose terms may cancel."""
        rounding = sum(self._prior_terms(params, stats.weight) for params in (old, new))
        return super().shortfall(old, new, stats) + SAFETY * EPS * rounding

    def _prior_terms(self, params: Params, weight: Array) -> float:
        """The sum of the sizes of what `_penalties` adds up for the prior, in nats."""
        away, pull = np.abs(params.means - self._target(params)), self.prior.means_weight[:, None]
        precisions = np.abs(self._structure.precisions(params.precisions_cholesky))
        precise = float((np.abs(self._anchored_scatter(params)) * precisions).sum())
        factor = np.abs(params.precisions_cholesky)
        pulled = float((pull * away * self._structure.precision_times(factor, away)).sum())
        copies = away.shape[1] if self._structure.isotropic else 1
        return 0.5 * self.share(weight) * (precise * copies + pulled)

    def _means(self, found: Params, previous: Params) -> Array:
        pull = self.share(found.weight) * self.prior.means_weight
        mass = pull + found.weight
        part = np.divide(pull, mass, out=np.zeros_like(mass), where=mass > 0)
        return np.asarray(found.means + part[:, None] * (self._target(previous) - found.means))

    def _believed(self, found: Params, means: Array, previous: Params) -> Params:
        share = self.share(found.weight)
        pulled = self._scatter(means - self._target(previous), share * self.prior.means_weight)
        return Params(scatter=pulled + share * self._anchored_scatter(previous), count=share * self.prior.count)

    def _target(self, params: Params) -> Array:
        """μ in the anchored frame."""
        return np.asarray((self.prior.means - params.center) / params.scale)

    def _anchored_scatter(self, params: Params) -> Array:
        """S in the anchored frame."""
        return self._structure.scaled(self.prior.scatter, 1.0 / params.scale)
