"""The kernel of a product of distributions: each factor's own kernel on its own columns, log-densities added up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ImpossibleValueError
from streamem.core.ports import Kernel
from streamem.core.stats import Stats

Array = NDArray[Any]


@dataclass(frozen=True)
class Factor:
    """One factor of a product.

    Attributes
    ----------
    key : under which its statistics are found
    kernel : of its components, for its own columns
    columns : (d_j,) where these are in a row
    drops : leave out rows without a value in these columns (all NaN): their density is 1
    """

    key: str
    kernel: Kernel
    columns: Array
    drops: bool


class ProductKernel(Kernel):
    """log p_k(x) = Σ_j log p_jk(x_j), of K components and factors j of columns x_j.

    Parameters
    ----------
    factors : whose columns together are those of a row
    n_components, rows : K, and most rows of a block
    gaps : rows may hold NaN; those without any value have no weight
    """

    def __init__(self, factors: Sequence[Factor], n_components: int, rows: int, gaps: bool = False) -> None:
        self._factors, self.n_components, self.block_rows = tuple(factors), n_components, rows
        kernels = [factor.kernel for factor in factors]
        self.dtype = kernels[0].dtype if len(kernels) == 1 else np.dtype(np.float64)
        self.float32_products = any(kernel.float32_products for kernel in kernels)
        # A kernel's bound is several units of its terms, so that an addition adds an eighth of all at most.
        self.rounding = (1.0 + len(kernels) / 8) * sum(kernel.rounding for kernel in kernels)
        self.path = "; ".join(dict.fromkeys(kernel.path for kernel in kernels))
        self._weight = np.zeros(n_components)
        self._gaps, self._blank = gaps, np.empty(0, dtype=np.int64)
        self._present: list[Array | None] = [None] * len(kernels)

    @property
    def reusable(self) -> bool:
        """Whether all factors' kernels are."""
        return all(factor.kernel.reusable for factor in self._factors)

    def restart(self) -> None:
        """Begin anew."""
        self._weight = np.zeros_like(self._weight)
        for factor in self._factors:
            factor.kernel.restart()

    def load(self, x: Array) -> None:
        """Take the next block (b, d): each factor a contiguous copy of its own columns."""
        if self._gaps:
            self._blank = no_values(x)
        for j, factor in enumerate(self._factors):
            own, self._present[j] = _present(own_columns(x, factor.columns), factor.drops)
            with in_columns_of_row(factor.columns):
                factor.kernel.load(own)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = Σ_j log p_jk."""
        out[...] = 0.0
        for factor, present in zip(self._factors, self._present, strict=True):
            rows = out.shape[1] if present is None else len(present)
            if not rows:
                continue
            own = self._buffer[: len(out) * rows].reshape(len(out), rows)
            factor.kernel.log_prob(own)
            if present is None:
                out += own
            else:
                out[:, present] += own

    def accumulate(self, resp: Array) -> None:
        """Add the statistics of every factor, weighted by resp (K, b)."""
        seen = np.delete(resp, self._blank, axis=1) if len(self._blank) else resp
        self._weight += seen.sum(axis=1, dtype=np.float64)
        for factor, present in zip(self._factors, self._present, strict=True):
            factor.kernel.accumulate(resp if present is None else np.ascontiguousarray(resp[:, present]))

    def stats(self) -> Stats:
        """weight (K,), and the factors' statistics under their keys."""
        factors = Stats(**{factor.key: factor.kernel.stats() for factor in self._factors})
        return Stats(weight=self._weight.copy(), factors=factors)

    @cached_property
    def _buffer(self) -> Array:
        return np.empty(self.n_components * self.block_rows, dtype=self.dtype)


def own_columns(x: Array, columns: Array) -> Array:
    """Columns of rows x (n, d) in C order: (n, d_j); x itself where these are all of it, in order."""
    if len(columns) == x.shape[1] and np.array_equal(columns, np.arange(len(columns))):
        return x
    return np.ascontiguousarray(x[:, columns])


def no_values(x: Array) -> Array:
    """Which rows of x (n, d) hold NaN alone: their indices."""
    return np.flatnonzero(np.isnan(x).all(axis=1))


def _present(own: Array, drops: bool) -> tuple[Array, Array | None]:
    """Rows with a value, and where they are, if that is not everywhere."""
    if not drops:
        return own, None
    absent = np.isnan(own).all(axis=1)
    if not absent.any():
        return own, None
    present = np.flatnonzero(~absent)
    return own[present], present


@contextmanager
def in_columns_of_row(columns: Array) -> Iterator[None]:
    """Tell of an `ImpossibleValueError` that is raised inside the column of the row, not that of the factor."""
    try:
        yield
    except ImpossibleValueError as error:
        raise ImpossibleValueError(error.value, int(columns[error.column]), error.needed) from error
