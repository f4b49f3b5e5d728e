"""Priors of Gaussian components: beliefs before any data."""

from __future__ import annotations

import zlib
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """Subtracts ½ Σ_k [c_k log|Σ_k| + tr(S_k + λ_k (m_k − μ_k)(m_k − μ_k)ᵀ) Σ_k⁻¹] from the log-likelihood.

    With a normal prior N(μ, Σ/λ) of the mean, this is an inverse Wishart prior of the covariance, or, feature by
    feature, an inverse gamma one, up to how degrees of freedom are counted (Gauvain & Lee 1994, §III).

    Attributes
    ----------
    means, means_weight : μ (K, d), and λ (K,) in rows
    scatter, count : S in the shape of the covariances, and c in rows: full (K, 1, 1), tied (), diag (K, d),
        spherical (K,)
    """

    means: Array
    means_weight: Array
    scatter: Array
    count: Array

    @property
    def says_nothing(self) -> bool:
        """Whether the prior is flat, so that the estimate is maximum likelihood."""
        return not (self.means_weight.any() or self.scatter.any() or self.count.any())

    @property
    def identity(self) -> str:
        """Tells it from others."""
        held = b"|".join(np.ascontiguousarray(value, dtype=np.float64).tobytes() for value in astuple(self))
        return f"{zlib.crc32(held):08x}"
