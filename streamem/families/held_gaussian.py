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


class HeldGaussian(Gaussian):
    """Gaussian components N(m_k, Σ_k) whose M-step leaves the means or the covariances as they are.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    held : "means" or "covars"

    Notes
    -----
    With fixed means the maximizer is the second moment about them: Σ = S + (x̄ − m)(x̄ − m)ᵀ, S that about the mean x̄.
    """

    def __init__(self, covariance_type: str = "full", reg_covar: float = 1e-6, held: str = "means") -> None:
        super().__init__(covariance_type, reg_covar)
        if held not in ("means", "covars"):
            raise ParameterError(f"held is {held!r}; it must be 'means' or 'covars'")
        self.held = held

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The free part, given the other."""
        free = super().maximize(stats, previous)
        if self.held == "covars":
            return previous.replace(means=free.means, empty=free.empty)
        shift, weight = free.means - previous.means, np.asarray(stats.weight)
        covariances = free.covariances + self._spread(shift, weight)
        return self._assemble(previous, previous.means, covariances, free.empty)

    def _spread(self, shift: Array, weight: Array) -> Array:
        """(x̄ − m)(x̄ − m)ᵀ of every component, in the shape of the covariance type."""
        if self.covariance_type == "full":
            return np.asarray(shift[:, :, None] * shift[:, None, :])
        if self.covariance_type == "tied":
            return np.asarray((shift * weight[:, None]).T @ shift / weight.sum())
        return shift**2 if self.covariance_type == "diag" else np.mean(shift**2, axis=1)
