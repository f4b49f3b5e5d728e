"""Gaussian components of which one part is held fixed: the means, or the covariances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.stats import Stats
from streamem.families.gaussian import Gaussian

Array = NDArray[Any]
HELD = ("means", "covars", "both", "nothing")


class HeldGaussian(Gaussian):
    """Gaussian components N(m_k, Σ_k) whose M-step leaves the means, the covariances or both as they are.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    held : "means", "covars", "both" or "nothing"

    Notes
    -----
    With fixed means the maximizer is the second moment about them: Σ = S + (x̄ − m)(x̄ − m)ᵀ, S that about the mean x̄.
    """

    def __init__(self, covariance_type: str = "full", reg_covar: float = 1e-6, held: str = "means") -> None:
        super().__init__(covariance_type, reg_covar)
        if held not in HELD:
            raise ParameterError(f"held is {held!r}; it must be one of {list(HELD)}")
        self.held = held

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The free part, given the other."""
        found = self._estimated(stats, previous)
        means = previous.means if self.held in ("means", "both") else self._means(found, previous)
        if self.held in ("covars", "both"):
            return previous.replace(means=means, empty=found.empty)
        return self._assemble(previous, means, self._covariances(found, means, previous), found.empty)

    def _means(self, found: Params, previous: Params) -> Array:
        """New means (K, d)."""
        return np.asarray(found.means)

    def _covariances(self, found: Params, means: Array, previous: Params) -> Array:
        """New covariances, about `means`."""
        around = self._scatter(found.means - means, found.weight)
        return np.asarray(found.covariances + around / self._spread(np.where(found.empty, 1.0, found.weight)))

    def _scatter(self, shift: Array, weight: Array) -> Array:
        """Weight times shift·shiftᵀ of every component, in the shape of the covariance type."""
        if self.covariance_type == "full":
            return np.asarray(weight[:, None, None] * shift[:, :, None] * shift[:, None, :])
        if self.covariance_type == "tied":
            return np.asarray((shift * weight[:, None]).T @ shift)
        return weight[:, None] * shift**2 if self.covariance_type == "diag" else weight * np.mean(shift**2, axis=1)

    def _spread(self, weight: Array) -> Array:
        """Weights (K,) as factors of covariances; their sum where one covariance serves all."""
        if self.covariance_type == "tied":
            return np.asarray(weight.sum())
        return np.asarray(weight.reshape(-1, *(1,) * {"full": 2, "diag": 1, "spherical": 0}[self.covariance_type]))
