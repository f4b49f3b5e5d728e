"""Gaussians on any rows: complete ones go through the ordinary kernel, the others by conditioning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.families.gaussian.apart import choose_kernel
from streamem.families.gaussian.conditional import ConditionalKernel, conditional_bytes
from streamem.families.gaussian.covariance import Covariance
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

PORTION_ROWS = 8192
"""Rows that are sorted out at the same time."""


class IncompleteKernel(Kernel):
    """Gaussians on rows of which some hold NaN.

    Parameters
    ----------
    dtype : of the rows
    """

    def __init__(self, structure: Covariance, params: Params, dtype: DTypeLike) -> None:
        self._complete = choose_kernel(structure, params, dtype)
        self._lacking = ConditionalKernel(structure, params)
        for kernel in (self._complete, self._lacking):
            kernel.n_components, kernel.block_rows = len(params.means), block_rows(*params.means.shape)
        self.dtype, self.float32_products = self._complete.dtype, self._complete.float32_products
        self.rounding = max(self._complete.rounding, self._lacking.rounding)
        self.path = self.in_words(self._complete.path)
        self._parts: list[tuple[Kernel, Array]] = []
        self._rows = 0

    @staticmethod
    def in_words(complete: str) -> str:
        """The arithmetic, given that of complete rows."""
        return f"{complete}, {ConditionalKernel.path} of rows with missing values"

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._rows = len(x)
        self._parts = list(self._sorted_out(x))
        for kernel, rows in self._parts:
            kernel.load(x[rows])

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        for kernel, rows in self._parts:
            if len(rows) == self._rows:
                kernel.log_prob(out)
                return
            part = np.empty((len(out), len(rows)), dtype=kernel.dtype)
            kernel.log_prob(part)
            out[:, rows] = part

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        for kernel, rows in self._parts:
            kernel.accumulate(resp if len(rows) == self._rows else resp[:, rows])

    def restart(self) -> None:
        """Begin anew."""
        self._complete.restart()
        self._lacking.restart()

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), and their statistics; rows without any value change nothing."""
        if not lacks(x).any():
            return self._complete.mix(x, weight, log_weights)
        total = MixtureSums(0.0, 0.0, np.zeros(len(log_weights)))
        for portion in portions(len(x)):
            own = x[portion]
            for kernel, rows in self._sorted_out(own):
                if kernel is self._lacking:
                    rows = rows[~np.isnan(own[rows]).all(axis=1)]
                weights = None if weight is None else weight[portion][rows]
                found = kernel.mix(own[rows], weights, log_weights)
                total = MixtureSums(
                    total.log_likelihood + found.log_likelihood,
                    total.pairs + found.pairs,
                    total.responsibilities + found.responsibilities,
                )
        return total

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        for portion in portions(len(x)):
            for kernel, rows in self._sorted_out(x[portion]):
                values, largest = np.empty((len(rows), b.shape[1])), np.empty(len(rows))
                kernel.densities(x[portion][rows], values, largest)
                b[portion][rows], peaks[portion][rows] = values, largest

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        for portion in portions(len(x)):
            for kernel, rows in self._sorted_out(x[portion]):
                kernel.accumulate_rows(x[portion][rows], weights[portion][rows], False)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M) or (M,)."""
        return self._complete.stats() + self._lacking.stats()

    def _sorted_out(self, x: Array) -> Iterator[tuple[Kernel, Array]]:
        """Kernels, and the rows of x that each takes; of no rows nobody."""
        lacking = lacks(x)
        for kernel, rows in ((self._complete, np.flatnonzero(~lacking)), (self._lacking, np.flatnonzero(lacking))):
            if len(rows):
                yield kernel, rows


def incomplete_bytes(structure: Covariance, k: int, d: int) -> int:
    """What the kernel holds besides that of complete rows, a portion of rows and their responsibilities included."""
    return conditional_bytes(structure, k, d) + 8 * PORTION_ROWS * (3 * d + 2 * k + 4)


def lacks(x: Array) -> Array:
    """(n,) bool: which rows hold NaN."""
    return np.asarray(np.isnan(x).any(axis=1))


def portions(n: int) -> Iterator[slice]:
    """Rows, a portion at a time."""
    for first in range(0, n, PORTION_ROWS):
        yield slice(first, min(first + PORTION_ROWS, n))
