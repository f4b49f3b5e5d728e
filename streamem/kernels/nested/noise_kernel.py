"""The kernel of components beside noise: one more component, of constant density over a box."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats

Array = NDArray[Any]


class NoiseKernel(Kernel):
    """K components by their own kernel, and behind them noise: density Π_j 1/length_j in the box, 0 outside of it.

    Of a row with values that were not observed (NaN) the others count. Noise has no statistics.

    Parameters
    ----------
    kernel : of the K components
    low, high : (d,) ends of the box, both within
    log_lengths : (d,) log of what each side holds, in units of the data, or values of a column of counts
    """

    def __init__(self, kernel: Kernel, low: Array, high: Array, log_lengths: Array) -> None:
        self._kernel, self._low, self._high, self._log_lengths = kernel, low, high, log_lengths
        self.dtype, self.block_rows, self.n_components = kernel.dtype, kernel.block_rows, kernel.n_components + 1
        self.rounding = kernel.rounding + EPS * float(np.abs(log_lengths).sum())
        self.path, self.float32_products = f"{kernel.path}, and noise", kernel.float32_products
        self._noise: Array = np.empty(0)

    @property
    def reusable(self) -> bool:
        """Whether the components' kernel is."""
        return self._kernel.reusable

    def restart(self) -> None:
        """Begin anew."""
        self._kernel.restart()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._kernel.load(x)
        self._noise = log_noise(x, self._low, self._high, self._log_lengths)

    def log_prob(self, out: Array) -> None:
        """out (K + 1, b)."""
        self._kernel.log_prob(out[:-1])
        out[-1] = self._noise

    def accumulate(self, resp: Array) -> None:
        """Responsibilities (K + 1, b): those of the components count."""
        self._kernel.accumulate(resp[:-1])

    def stats(self) -> Stats:
        """Statistics of the components, without those of the noise."""
        return self._kernel.stats()


def log_noise(x: Array, low: Array, high: Array, log_lengths: Array) -> Array:
    """Log-density (n,) of noise at rows x (n, d), in nats; −∞ outside of the box."""
    outside = ((x < low) | (x > high)).any(axis=1)
    absent = np.isnan(x)
    observed = log_lengths.sum() - absent @ log_lengths if absent.any() else log_lengths.sum()
    return np.where(outside, -np.inf, -observed)
