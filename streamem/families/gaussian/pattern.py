"""Gaussians on rows that all lack the same features: the kernel of the others, and sums that are completed at once.

Given what was observed, the expected statistics of a row are linear in its own, so they are taken of the sums: with
B = Σ_mo Σ_oo⁻¹, E[Σ z_m] = B·Σ z_o and E[Σ z zᵀ] = [I; B]·(Σ z_o z_oᵀ)·[I; B]ᵀ, and the weight times the conditional
covariance where both are missing. What a pattern costs besides does not depend on its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import by_variances, origins
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import pack, unpack
from streamem.families.gaussian.marginal import marginal
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]


class Pattern:
    """One set of observed features, of elliptical components at fixed parameters.

    Attributes
    ----------
    kernel : of the observed features
    observed : (o,) which these are, at least one
    used : whether rows were added since the last restart

    Parameters
    ----------
    observed : (o,) which features there are, at least one
    kernel_of_own : from the marginal of these, its kernel
    """

    def __init__(
        self, structure: Covariance, params: Params, observed: Array, kernel_of_own: Callable[[Params], Kernel]
    ) -> None:
        self._structure, self._params, self.observed, self.used = structure, params, observed, False
        self._own = marginal(structure, params, observed)
        k, d = params.means.shape
        self._lacking = np.setdiff1d(np.arange(d), observed)
        self.kernel = kernel_of_own(self._own)
        self.kernel.n_components, self.kernel.block_rows = k, block_rows(k, len(observed))
        if not by_variances(structure, d):
            self._slopes, self._left = _regression(structure, params, observed, self._lacking)

    def restart(self) -> None:
        """Begin anew."""
        self.kernel.restart()
        self.used = False

    def stats(self) -> Stats:
        """Expected statistics of all features: weight (K,), first (K, d), second (K, M) or (M,)."""
        own = self.kernel.stats()
        return self.completed(own, own.weight)

    def completed(self, own: Stats, left: Array) -> Stats:
        """Gaussian statistics of all features, of those of the observed ones; conditional covariances by left (K,)."""
        structure, means = self._structure, self._params.means
        center = origins(structure, self._own) - self._own.means
        about = structure.shifted(own.second, own.first, own.weight, center)
        second = self._completed(about, left)
        first = np.zeros(means.shape)
        first[:, self.observed] = own.first + own.weight[:, None] * center
        if not by_variances(structure, means.shape[1]):
            moved = np.broadcast_to(self._slopes, (len(means), *self._slopes.shape[1:]))
            first[:, self._lacking] = np.einsum("kmo,ko->km", moved, first[:, self.observed])
        shift = means - origins(structure, self._params)
        second = structure.shifted(second, first, own.weight, shift)
        return Stats(weight=own.weight, first=first + own.weight[:, None] * shift, second=second)

    def _completed(self, about: Array, weight: Array) -> Array:
        """Second moments of all features about the means, of those of the observed ones."""
        structure, (k, d) = self._structure, self._params.means.shape
        if by_variances(structure, d):
            variances = structure.variances(self._params.covariances, k, d)[:, self._lacking] * weight[:, None]
            if structure.isotropic:
                return np.asarray(about + variances.sum(axis=1, keepdims=True))
            whole = np.empty((k, d))
            whole[:, self.observed], whole[:, self._lacking] = about, variances
            return whole
        seen, lacking = self.observed[:, None], self._lacking[:, None]
        own = np.reshape(unpack(about, len(self.observed)), (-1, len(seen), len(seen)))
        counts = np.array([weight.sum()]) if structure.shared else weight
        across, whole = self._slopes @ own, np.empty((len(own), d, d))
        whole[:, seen, self.observed] = own
        whole[:, lacking, self.observed], whole[:, seen, self._lacking] = across, np.swapaxes(across, 1, 2)
        whole[:, lacking, self._lacking] = across @ np.swapaxes(self._slopes, 1, 2) + counts[:, None, None] * self._left
        packed = pack(whole)
        return np.asarray(packed[0] if structure.shared else packed)


def _regression(structure: Covariance, params: Params, observed: Array, lacking: Array) -> tuple[Array, Array]:
    """B (K or 1, m, o) and conditional covariances (K or 1, m, m)."""
    d = params.means.shape[1]
    precisions = np.reshape(structure.precisions(params.precisions_cholesky), (-1, d, d))
    left = np.linalg.inv(precisions[:, lacking[:, None], lacking])
    return -left @ precisions[:, lacking[:, None], observed], left


def pattern_bytes(dense: int, k: int, d: int) -> int:
    """What a pattern holds, of which `dense` is its kernel's."""
    return dense + 8 * k * d * (2 * d + 1)
