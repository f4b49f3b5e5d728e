"""Codes that were never seen while planning, as codes that were not observed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.ports import MixtureSums
from streamem.kernels.tables.table_kernel import CategoricalKernel

Array = NDArray[Any]


def known_codes(x: Array, starts: Array) -> Array:
    """Codes x (n, d) with NaN for those beyond the categories of their column, which `starts` (d + 1,) tell."""
    beyond = x >= np.diff(starts)
    return np.where(beyond, np.nan, x) if beyond.any() else x


class KnownCodesKernel(CategoricalKernel):
    """Look-ups in which a code beyond the table is one that was not observed."""

    def __init__(self, params: Params) -> None:
        super().__init__(params, missing=True)

    def _placed(self, x: Array, out: Array) -> Array:
        """Places (b, d) of codes x."""
        return super()._placed(known_codes(x, self._starts), out)

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), block by block, and their statistics."""
        return super().mix(known_codes(x, self._starts), weight, log_weights)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        super().densities(known_codes(x, self._starts), b, peaks)

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        super().accumulate_rows(known_codes(x, self._starts), weights, again)
