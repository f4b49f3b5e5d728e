"""The kernel of exponential families whose features are functions of single columns, with compiled speed for each.

log p_k(x) = η_k0 + Σ_f η_kf T_f(x) + h(x). A block is turned into [1, T(x)] with rows last, and what follows is that of
features which are the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.kernels.features.features import AnchoredBlock, as_rows
from streamem.kernels.features.linear_kernel import SAFETY, LinearKernel, Measure
from streamem.kernels.features.transform_sums import TransformSums
from streamem.kernels.features.transforms import FeatureTable
from streamem.kernels.tiling import Products, products_bytes
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

AsStats = Callable[[Array], Stats]
"""Sums (K, 1 + F) of [1, T(x)] as statistics of a family."""


class TransformKernel(LinearKernel):
    """Two matrix products with features of a table; runs mixtures by itself.

    Parameters
    ----------
    natural : (K, 1 + F) η of [1, T], finite
    table : the features
    n_columns : d
    terms : (K,) size of the terms of a typical log-density, in nats, from which its rounding follows
    measure : h; it refuses values that the family cannot emit
    as_stats : what the sums are called
    """

    def __init__(
        self, natural: Array, table: FeatureTable, n_columns: int, terms: Array, measure: Measure, as_stats: AsStats
    ) -> None:
        super().__init__(natural, measure, SAFETY * EPS * (float(terms.max()) + natural.shape[1]))
        self.path = "float64 products of transformed columns"
        self._table, self._as_stats, self._n_columns = table, as_stats, n_columns
        self._block = _TransformedBlock(table, self._rows, natural.shape[1], n_columns)

    def stats(self) -> Stats:
        """The sums under the names of the family."""
        return self._as_stats(self.sums())

    def feature_sums(self, products: Products) -> Any:
        """What passes add to, and the table that fills its rows."""
        columns = thread_buffer("columns", (self._n_columns * self._rows,))
        return TransformSums(super().feature_sums(products), self._table, columns)


class _TransformedBlock(AnchoredBlock):
    """A block of rows as [1, T(x)], rows last."""

    def __init__(self, table: FeatureTable, most_rows: int, width: int, n_columns: int) -> None:
        super().__init__(np.zeros(width - 1), np.ones(width - 1), most_rows, np.float64)
        self._table, self._n_columns = table, n_columns

    def load(self, x: Array) -> None:
        """Take rows x (b, d)."""
        width, most = self._shape
        if self._buffer is None:
            self._buffer = np.empty(width * most)
        self.z = self._buffer[: width * len(x)].reshape(width, len(x))
        kernels.fill_features(as_rows(x), self._table, thread_buffer("columns", (self._n_columns * len(x),)), self.z)


def transform_bytes(k: int, d: int, n_features: int) -> int:
    """Bytes that such a kernel holds, its base measure and the columns of a block included."""
    return products_bytes(k, n_features, 1 + n_features) + 8 * (2**15 + 1024 * d) + 16 * k * (1 + n_features)
