"""Log-densities of the steps of a chunk, and the family's statistics of them; missing rows are left out of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core import loops
from streamem.core.offers import offers
from streamem.core.ports import Kernel, RowMajor
from streamem.core.stats import Stats
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]


class Emissions:
    """A family's kernel over runs of rows of one chunk.

    Parameters
    ----------
    kernel, block_rows : the family at fixed parameters, and how many rows it takes at once
    x : (n, d)
    missing : (n,) bool rows without values, whose densities are 1 in every state, or None
    k : number of states
    """

    def __init__(self, kernel: Kernel, block_rows: int, x: Array, missing: Array | None, k: int) -> None:
        self.kernel, self._block_rows, self._x, self._missing, self._k = kernel, block_rows, x, missing, k
        self._rows = kernel if offers(kernel, RowMajor) else None
        self._loaded: tuple[int, int] | None = None  # by the kernel's `load`
        self._dense: tuple[int, int] | None = None  # by `densities`
        self._accumulated = False
        self._held = thread_buffer("hmm block", (k * min(block_rows, max(1, len(x))),), kernel.dtype)

    def scaled(self, first: int, stop: int, b: Array, peaks: Array) -> None:
        """b (rows, width) = exp(log-density − largest of the row), and those largest (rows,)."""
        x, present = self._present(first, stop)
        if self._rows is not None:
            self._rows.densities(x, b[: len(x)], peaks[: len(x)])
            self._dense = (first, stop) if present is None else None
        else:
            self._scaled(x, first, b, peaks)
        if present is not None:
            b[present], peaks[present] = b[: len(x)].copy(), peaks[: len(x)].copy()
            absent = np.ones(stop - first, dtype=np.bool_)
            absent[present] = False
            b[absent, : self._k], b[absent, self._k :], peaks[absent] = 1.0, 0.0, 0.0

    def _scaled(self, x: Array, first: int, b: Array, peaks: Array) -> None:
        for block, log_prob in self._log_prob(x, first):
            loops.scaled(log_prob, b[block], peaks[block])

    def log_prob(self, first: int, stop: int) -> Array:
        """(rows, K) float64 in nats, 0 for missing rows."""
        x, present = self._present(first, stop)
        found = np.empty((len(x), self._k))
        for block, log_prob in self._log_prob(x, first):
            found[block] = log_prob.T
        if present is None:
            return found
        out = np.zeros((stop - first, self._k))
        out[present] = found
        return out

    def accumulate(self, first: int, stop: int, gamma: Array) -> None:
        """Add the statistics of rows weighted by gamma (rows, width)."""
        x, present = self._present(first, stop)
        if present is not None:
            gamma = gamma[present]
        self._accumulated = self._accumulated or len(x) > 0
        if self._rows is not None:
            self._rows.accumulate_rows(x, gamma, present is None and self._dense == (first, stop))
            return
        self._by_blocks(x, first, gamma)

    def _by_blocks(self, x: Array, first: int, gamma: Array) -> None:
        for block in self._blocks(len(x)):
            resp = self._buffer(block)
            loops.columns(gamma[block], resp)
            self._load(x, block, first)
            self.kernel.accumulate(resp)

    def stats(self) -> Stats:
        """All accumulated statistics; those of no rows if there were none."""
        if not self._accumulated:
            self.kernel.load(self._x[:0])
            self.kernel.accumulate(np.zeros((self._k, 0), dtype=self.kernel.dtype))
        return self.kernel.stats()

    def _present(self, first: int, stop: int) -> tuple[Array, Array | None]:
        """Rows that have values, and where they are, if that is not everywhere."""
        x = self._x[first:stop]
        if self._missing is None or not self._missing[first:stop].any():
            return x, None
        present = np.flatnonzero(~self._missing[first:stop])
        return x[present], present

    def _log_prob(self, x: Array, first: int) -> Iterator[tuple[slice, Array]]:
        for block in self._blocks(len(x)):
            out = self._buffer(block)
            self._load(x, block, first)
            self.kernel.log_prob(out)
            yield block, out

    def _blocks(self, rows: int) -> Iterator[slice]:
        for start in range(0, rows, self._block_rows):
            yield slice(start, min(start + self._block_rows, rows))

    def _load(self, x: Array, block: slice, first: int) -> None:
        """Unless the kernel holds just these rows."""
        key = (first + block.start, first + block.stop) if self._missing is None else None
        if key is None or key != self._loaded:
            self.kernel.load(x[block])
            self._loaded = key

    def _buffer(self, block: slice) -> Array:
        rows = block.stop - block.start
        return self._held[: self._k * rows].reshape(self._k, rows)
