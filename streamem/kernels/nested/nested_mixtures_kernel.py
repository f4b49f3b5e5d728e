"""The kernel of mixtures as components: that of all parts, and log-sum-exp over the parts of each component."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core import loops
from streamem.core.numerics import EPS, normalize_log_rows
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.machine.lanes import in_lanes, lanes_for
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

MANY_BYTES = 2**20
"""Densities of all parts that are held at a time: few calls for many rows, in the cache of several cores."""


def parts_kernel(parts: Kernel, weights: Array, rows: int) -> PartsKernel:
    """The kernel of mixtures of parts, one call for many rows where the parts have that."""
    return (ManyRowsOfParts if parts.takes_many_rows else PartsKernel)(parts, weights, rows)


class PartsKernel(Kernel):
    """K mixtures of M parts each, the parts in one kernel of K·M components.

    Parameters
    ----------
    parts : the kernel of the parts, those of one component next to each other
    weights : (K, M)
    rows : most rows of a block
    """

    def __init__(self, parts: Kernel, weights: Array, rows: int) -> None:
        self._parts, self.block_rows, self.n_components = parts, rows, len(weights)
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(weights)
        self.dtype, self.path = parts.dtype, f"mixtures of {weights.shape[1]} parts by {parts.path}"
        self.float32_products = parts.float32_products
        self.rounding = parts.rounding + EPS * (8 + weights.shape[1])
        self._weight: Array = np.zeros(weights.shape)
        self._rows, self._known = 0, False

    @cached_property
    def _buffers(self) -> Array:
        return np.empty((2, self._weight.size * self.block_rows), dtype=self.dtype)

    @cached_property
    def _density(self) -> Array:
        return np.empty(len(self._weight) * self.block_rows)

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


class ManyRowsOfParts(PartsKernel):
    """A mixture of parts for many rows at a time, where the kernel of the parts takes many rows."""

    def __init__(self, parts: Kernel, weights: Array, rows: int) -> None:
        super().__init__(parts, weights, rows)
        self._weights = np.array(weights)  # a copy: parameters are read-only, and would be compiled for once more
        self._width = lanes_for(weights.size)
        self._many = max(rows, MANY_BYTES // (8 * self._width))
        self._held: Array = np.empty((0, self._width))
        self._undivided = False  # whether `_held` has densities

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """A mixture of mixtures is one of all parts; pairs are those of row and part."""
        found = self._parts.mix(x, weight, (log_weights[:, None] + self._log_weights).ravel())
        occupied = found.responsibilities.reshape(self._weight.shape)
        self._weight += occupied
        return MixtureSums(found.log_likelihood, found.pairs, occupied.sum(axis=1))

    def restart(self) -> None:
        """Begin anew."""
        self._parts.restart()
        self._weight = np.zeros_like(self._weight)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        for first in range(0, len(x), self._many):
            rows = slice(first, first + self._many)
            parts = self._densities(x[rows], peaks[rows])
            if not kernels.joined(parts, self._weights, b[rows], peaks[rows]):
                self._densities_in_logarithms(x[rows], b[rows], peaks[rows])

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        again = again and self._undivided and len(x) <= self._many
        peaks = thread_buffer("parts peaks", (min(len(x), self._many),))
        for first in range(0, len(x), self._many):
            rows = slice(first, first + self._many)
            own = x[rows]
            parts = self._held[: len(own)] if again else self._densities(own, peaks[: len(own)])
            self._undivided = False
            if kernels.divided(parts, self._weights, weights[rows], self._weight):
                self._parts.accumulate_rows(own, parts, True)
            else:
                self._accumulate_in_logarithms(own, weights[rows])

    def _densities(self, x: Array, peaks: Array) -> Array:
        if len(self._held) < len(x):
            self._held = np.empty((len(x), self._width))
        parts = self._held[: len(x)]
        self._parts.densities(x, parts, peaks)
        self._undivided = True
        return parts

    def _densities_in_logarithms(self, x: Array, b: Array, peaks: Array) -> None:
        for first in range(0, len(x), self.block_rows):
            rows = slice(first, first + self.block_rows)
            self.load(x[rows])
            log_prob = np.empty((len(self._weight), self._rows))
            self.log_prob(log_prob)
            suited = in_lanes(b[rows])
            loops.scaled(log_prob, suited, peaks[rows])
            b[rows] = suited[:, : b.shape[1]]

    def _accumulate_in_logarithms(self, x: Array, weights: Array) -> None:
        for first in range(0, len(x), self.block_rows):
            rows = slice(first, first + self.block_rows)
            self.load(x[rows])
            self.accumulate(np.ascontiguousarray(weights[rows, : len(self._weight)].T, dtype=self.dtype))
