"""Log-densities of the steps of a chunk, and the family's statistics of them; missing rows are left out of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats

Array = NDArray[Any]


class Emissions:
    """A family's kernel over runs of rows of one chunk.

    Parameters
    ----------
    kernel : the family at fixed parameters
    x : (n, d)
    missing : (n,) bool rows without values, whose densities are 1 in every state, or None
    overflows : which finite values have no log-density, in words
    """

    def __init__(self, kernel: Kernel, x: Array, missing: Array | None, overflows: str = "") -> None:
        self.overflows = overflows
        self.kernel, self.x, self._missing, self._k = kernel, x, missing, kernel.n_components
        self._dense: tuple[int, int] | None = None  # rows that the kernel still has from `densities`
        self._accumulated = False

    def scaled(self, first: int, stop: int, b: Array, peaks: Array) -> None:
        """b (rows, width) = exp(log-density − largest of the row), and those largest (rows,)."""
        x, present = self._present(first, stop)
        self.kernel.densities(x, b[: len(x)], peaks[: len(x)])
        self._dense = (first, stop) if present is None else None
        if present is not None:
            b[present], peaks[present] = b[: len(x)].copy(), peaks[: len(x)].copy()
            absent = np.ones(stop - first, dtype=np.bool_)
            absent[present] = False
            b[absent, : self._k], b[absent, self._k :], peaks[absent] = 1.0, 0.0, 0.0

    def log_prob(self, first: int, stop: int) -> Array:
        """(rows, K) float64 in nats, 0 for missing rows."""
        x, present = self._present(first, stop)
        if present is None and (at_once := self.kernel.rows_log_prob(x)) is not None:
            self._dense = None
            return at_once
        found = np.empty((len(x), self._k))
        for block in self.kernel.blocks(len(x)) if len(x) else ():
            self.kernel.load(x[block])
            log_prob = np.empty((self._k, block.stop - block.start), dtype=self.kernel.dtype)
            self.kernel.log_prob(log_prob)
            found[block] = log_prob.T
        self._dense = None
        if present is None:
            return found
        out = np.zeros((stop - first, self._k))
        out[present] = found
        return out

    def mix_groups(self, spans: Array, weight: Array | None, log_weights: Array) -> MixtureSums | None:
        """The E-step of groups with spans (g, 2) of rows, see `Kernel.mix_groups`; None where rows are missing."""
        x = self._of_groups(spans)
        return None if x is None else self.kernel.mix_groups(x, spans - spans[0, 0], weight, log_weights)

    def accumulate_groups(self, spans: Array, weights: Array) -> bool:
        """Add the statistics of groups with weights (g, K), all rows of one alike, if the kernel has such a call."""
        x = self._of_groups(spans) if self.kernel.takes_groups else None
        if x is not None:
            self.kernel.accumulate_groups(x, spans - spans[0, 0], weights)
        return x is not None

    def accumulate(self, first: int, stop: int, gamma: Array) -> None:
        """Add the statistics of rows weighted by gamma (rows, width)."""
        x, present = self._present(first, stop)
        if present is not None:
            gamma = gamma[present]
        if not len(x):
            return
        self._accumulated = True
        self.kernel.accumulate_rows(x, gamma, present is None and self._dense == (first, stop))

    def stats(self) -> Stats:
        """All accumulated statistics; those of no rows if there were none."""
        if not self._accumulated:
            self.kernel.load(self.x[:0])
            self.kernel.accumulate(np.zeros((self._k, 0), dtype=self.kernel.dtype))
        return self.kernel.stats()

    def _of_groups(self, spans: Array) -> Array | None:
        """Rows of groups, whose statistics are going to be added; None if there is none, or some are missing."""
        x, present = self._present(int(spans[0, 0]), int(spans[-1, 1]))
        if present is not None or not len(x):
            return None
        self._dense, self._accumulated = None, True
        return x

    def _present(self, first: int, stop: int) -> tuple[Array, Array | None]:
        """Rows that have values, and where they are, if that is not everywhere."""
        x = self.x[first:stop]
        if self._missing is None or not self._missing[first:stop].any():
            return x, None
        present = np.flatnonzero(~self._missing[first:stop])
        return x[present], present
