"""Kernels of families whose features are the values themselves: log p_k(x) = η_k0 + η_k·x + h(x).

The base measure h is common to all components, so responsibilities do not need it; it is computed once for a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.kernels.features.exponential import ExponentialKernel
from streamem.kernels.features.features import linear_features
from streamem.kernels.tiling import panels_of, products_bytes

Array = NDArray[Any]

Measure = Callable[[Array], Array]
"""Rows x (n, d) → h(x) (n,) in nats, or of one value; it refuses what the family cannot emit."""

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""


def linear_kernel(natural: Array, terms: Array, forbidden: Array, measure: Measure) -> Kernel:
    """The kernel for natural parameters.

    Parameters
    ----------
    natural : (K, 1 + d) η, finite
    terms : (K,) size of the terms of a typical log-density, in nats, from which its rounding follows
    forbidden : (K, 1 + d) coefficients of [1, x] that sum to 0 where component k can emit x, and to 1 or more where not
    measure : h
    """
    rounding = SAFETY * EPS * (float(terms.max()) + natural.shape[1])
    kernel = LinearKernel(natural, measure, rounding)
    return BoundaryKernel(kernel, forbidden) if forbidden.any() else kernel


def linear_bytes(k: int, d: int) -> int:
    """Bytes that such a kernel holds, its base measure included."""
    return products_bytes(k, d, 1 + d) + 8 * 2**15


class LinearKernel(ExponentialKernel):
    """Two matrix products; runs mixtures by itself."""

    def __init__(self, natural: Array, measure: Measure, rounding: float) -> None:
        d = natural.shape[1] - 1
        panels = panels_of(natural, np.float64)
        super().__init__(panels, linear_features(d), np.zeros(d), np.ones(d), rounding)
        self._measure, self._base = measure, np.zeros(1)

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._base = self._measure(x)
        super().load(x)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = η·[1, x] + h."""
        super().log_prob(out)
        out += self._base

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows, with the base measure h that all components share."""
        measure = self._measure(x)
        super().densities(x, b, peaks)
        peaks += measure

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """The E-step without h, whose sum is added to the log-likelihood."""
        base = np.broadcast_to(self._measure(x), len(x))
        sums = super().mix(x, weight, log_weights)
        added = float(base.sum() if weight is None else base @ weight)
        return sums._replace(log_likelihood=sums.log_likelihood + added)

    def stats(self) -> Stats:
        """weight (K,) and x (K, d)."""
        sums = self.sums()
        return Stats(weight=sums[:, 0], x=sums[:, 1:])


class BoundaryKernel(Kernel):
    """A linear kernel whose components cannot emit some values: a rate or a probability is exactly 0 (or 1).

    It looks at the features of the rows that were loaded; block by block, and for one chunk (no `restart`).
    """

    def __init__(self, kernel: LinearKernel, forbidden: Array) -> None:
        self._kernel, self._forbidden = kernel, forbidden
        self.rounding, self.dtype, self.path = kernel.rounding, kernel.dtype, f"{kernel.path}, zeros apart"
        self.float32_products = kernel.float32_products

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._kernel.load(x)

    def log_prob(self, out: Array) -> None:
        """Log-densities of the loaded rows; −∞ for values that a component cannot emit."""
        self._kernel.log_prob(out)
        out[self._forbidden @ self._kernel.z > 0.5] = -np.inf

    def accumulate(self, resp: Array) -> None:
        """The answer of the linear kernel."""
        self._kernel.accumulate(resp)

    def stats(self) -> Stats:
        """The answer of the linear kernel."""
        return self._kernel.stats()
