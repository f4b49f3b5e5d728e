"""Any family as a `Kernel`: models and families made of families need one code path for fast and four-line ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.numerics import EPS
from streamem.core.offers import offers
from streamem.core.ports import Blockwise, Family, Kernel, Restartable
from streamem.core.stats import Stats

Array = NDArray[Any]
Made = TypeVar("Made")

_OWN = threading.local()

PLAIN_BLOCK_ROWS = 4096


class PlainKernel:
    """Runs the three functions of a `Family` block by block."""

    path, dtype = "the family's own functions", np.dtype(np.float64)

    def __init__(self, family: Family, params: Any) -> None:
        self._family, self._params = family, params
        self._x: Array = np.empty((0, 0))
        self._stats: Stats | None = None
        self.rounding = 64 * EPS

    def load(self, x: Array) -> None:
        """Keep the block."""
        self._x = x

    def log_prob(self, out: Array) -> None:
        """The family's log-densities, transposed."""
        out[...] = np.asarray(self._family.log_prob(self._params, self._x)).T

    def accumulate(self, resp: Array) -> None:
        """Add the family's statistics."""
        stats = self._family.stats(self._params, self._x, resp.T)
        self._stats = stats if self._stats is None else self._stats + stats

    def stats(self) -> Stats:
        """Everything accumulated."""
        if self._stats is None:
            raise ValueError("no rows were accumulated")
        return self._stats


def kernel_of(family: Family, params: Any, dtype: DTypeLike = np.float64) -> Kernel:
    """The family's own kernel if it offers one, for rows of `dtype`."""
    return family.kernel(params, dtype) if offers(family, Blockwise) else PlainKernel(family, params)


def block_rows_of(family: Family, params: Any) -> int:
    """Rows a block for `kernel_of`."""
    return family.block_rows(params) if offers(family, Blockwise) else PLAIN_BLOCK_ROWS


def drop_kernel() -> None:
    """Forget the kernel that this thread holds, and its parameters."""
    _OWN.held = None


def reused_kernel(owner: object, params: object, dtype: DTypeLike, make: Callable[[], Made]) -> Made:
    """The kernel that this thread made last, restarted, if it was for the same owner, parameters and dtype; else a new
    one.

    To make one costs as much as thousands of rows. It is held, with its parameters, until the thread ends, makes the
    next one or is told to `drop_kernel`.
    """
    known = getattr(_OWN, "held", None)
    if known is not None and known[0] is owner and known[1] is params and known[2] == dtype:
        kernel: Made = known[3]
        known[3].restart()
        return kernel
    del known
    drop_kernel()
    kernel = make()
    _OWN.held = (owner, params, dtype, kernel) if offers(kernel, Restartable) else None
    return kernel
