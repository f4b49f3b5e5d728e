"""The kernel of mixtures as components: that of all parts, and log-sum-exp over the parts of each component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS, normalize_log_rows
from streamem.core.ports import Kernel
from streamem.core.stats import Stats

Array = NDArray[Any]


class PartsKernel:
    """K mixtures of M parts each, the parts in one kernel of K·M components.

    Parameters
    ----------
    parts : the kernel of the parts, those of one component next to each other
    weights : (K, M)
    rows : most rows of a block
    """

    def __init__(self, parts: Kernel, weights: Array, rows: int) -> None:
        self._parts = parts
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(weights)
        self.dtype, self.path = parts.dtype, f"mixtures of {weights.shape[1]} parts by {parts.path}"
        self.rounding = parts.rounding + EPS * (8 + weights.shape[1])
        self._buffers = np.empty((2, weights.size * rows), dtype=parts.dtype)
        self._density = np.empty(len(weights) * rows)
        self._weight: Array = np.zeros(weights.shape)
        self._rows, self._known = 0, False

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._parts.load(x)
        self._rows, self._known = len(x), False

    def log_prob(self, out: Array) -> None:
        """out (K, b) = log Σ_m w_m p_m."""
        self._split()
        out[...] = self._of_block(self._density, len(self._weight))

    def accumulate(self, resp: Array) -> None:
        """Responsibilities (K, b), divided among the parts by their posterior probabilities."""
        self._split()
        posterior, divided = (self._of_block(buffer, self._weight.size) for buffer in self._buffers)
        k, m = self._weight.shape
        by_component = (k, m, self._rows)
        np.multiply(posterior.reshape(by_component), resp[:, None], out=divided.reshape(by_component))
        self._weight += np.sum(divided.reshape(by_component), axis=2, dtype=np.float64)
        self._parts.accumulate(divided)

    def stats(self) -> Stats:
        """weight (K, M), and the statistics of the parts."""
        return Stats(weight=self._weight.copy(), parts=self._parts.stats())

    def _split(self) -> None:
        """Log-densities of the components, and posterior probabilities of the parts, once for a block."""
        if self._known:
            return
        posterior, density = (
            self._of_block(self._buffers[0], self._weight.size),
            self._of_block(self._density, len(self._weight)),
        )
        self._parts.log_prob(posterior)
        m = self._weight.shape[1]
        for k, log_weights in enumerate(self._log_weights):
            own = posterior[k * m : (k + 1) * m]
            density[k] = normalize_log_rows(own, log_weights).log_density
            impossible = np.isnan(density[k])  # under every part: the difference of two infinities
            if impossible.any():
                density[k, impossible], own[:, impossible] = -np.inf, 0.0
        self._known = True

    def _of_block(self, buffer: Array, components: int) -> Array:
        return buffer[: components * self._rows].reshape(components, self._rows)
