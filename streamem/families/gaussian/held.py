"""Gaussian components of which a part is held fixed, or which share covariances in groups."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.stats import Stats
from streamem.families.gaussian.distribution import MEANS, Gaussian
from streamem.families.gaussian.shortfall import Sizes

Array = NDArray[Any]
HELD = ("means", "covars", "both", "nothing")


class HeldGaussian(Gaussian):
    """Gaussian components N(m_k, Σ_k) whose M-step leaves the means, the covariances or both as they are.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    held : "means", "covars", "both" or "nothing"
    together : as many components, one after the other, share a covariance; of "full" ones

    Notes
    -----
    With fixed means the maximizer is the second moment about them: Σ = S + (x̄ − m)(x̄ − m)ᵀ, S that about the mean x̄.
    """

    def __init__(
        self, covariance_type: str = "full", reg_covar: float = 1e-6, held: str = "means", together: int = 1
    ) -> None:
        super().__init__(covariance_type, reg_covar)
        if together != 1 and covariance_type != "full":
            raise ParameterError(f"covariances that are {covariance_type} are not shared in groups; full ones are")
        self.together = together
        if held not in HELD:
            raise ParameterError(f"held is {held!r}; it must be one of {list(HELD)}")
        self.held = held

    @np.errstate(over="ignore", invalid="ignore")  # a covariance that is not finite is an error
    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The free part, given the other."""
        found = self._estimated(stats, previous)
        means = previous.means if self.held in ("means", "both") else self._means(found, previous)
        if self.held in ("covars", "both"):
            return previous.replace(means=means, empty=found.empty)
        covariances, sizes = self._covariances(found, means, previous), self._sizes(stats, previous, means)
        return self._assemble(previous, means, covariances, found.empty, sizes)

    def holds(self, names: frozenset[str]) -> bool:
        """Means or covariances, where nothing is held yet."""
        return self.held == "nothing" and super().holds(names)

    def maximize_holding(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """The M-step of this family with these held."""
        other = copy.copy(self)
        other.held = "means" if names == MEANS else "covars"
        return other.maximize(stats, previous)

    def ties(self, names: frozenset[str]) -> bool:
        """Refuse: a prior of each covariance would have to be shared too."""
        return False

    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters of k means and their covariances."""
        return k * d + self._structure.n_parameters(k // self.together, d)

    def _sizes(self, stats: Stats, previous: Params, means: Array) -> Sizes:
        """Sizes of the largest of the components that share a covariance."""
        sizes = super()._sizes(stats, previous, means)
        if self.together == 1:
            return sizes
        groups = (values.reshape(-1, self.together, means.shape[1]).max(axis=1) for values in sizes)
        return Sizes(*(np.repeat(values, self.together, axis=0) for values in groups))

    def _means(self, found: Params, previous: Params) -> Array:
        """New means (K, d)."""
        return np.asarray(found.means)

    def _covariances(self, found: Params, means: Array, previous: Params) -> Array:
        """New covariances, about `means`; unchanged for a component without rows and prior."""
        rows, believed = self._spread(found.weight), self._believed(found, means, previous)
        scatter = rows * found.covariances + self._scatter(found.means - means, found.weight) + believed.scatter
        rows, mass, scatter = (self._pooled(value) for value in (rows, rows + believed.count, scatter))
        wide = (self._structure.variances(scatter, *means.shape) > 0).all(axis=1)
        told = (rows > 0) | (mass > 0) & (self._spread(np.asarray(wide)) > 0)
        return np.where(told, scatter / np.where(mass > 0, mass, 1.0), found.covariances)

    def _believed(self, found: Params, means: Array, previous: Params) -> Params:
        """Scatter about `means`, and count of rows, that a prior adds to those of the data."""
        return Params(scatter=0.0, count=0.0)

    def _pooled(self, values: Array) -> Array:
        """Sums over the components that share a covariance, for each of them."""
        if self.together == 1:
            return np.asarray(values)
        sums = values.reshape(-1, self.together, *values.shape[1:]).sum(axis=1)
        return np.repeat(sums, self.together, axis=0)
