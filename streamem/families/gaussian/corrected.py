"""Gaussians on rows that lack values, filled with any and corrected: where products of precisions are accurate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import negligible
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.gaussian.apart import choose_kernel
from streamem.families.gaussian.arithmetic import as_stats
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import pack
from streamem.families.gaussian.rounding import product_rounding
from streamem.kernels.features.features import as_rows
from streamem.kernels.incomplete.groups import (
    GROUP,
    Precisions,
    corner_for,
    from_groups,
    groups_for,
    in_groups,
    matrices_in_groups,
)
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

TERMS = 4.0
"""By how much a bound on the rounding of a log-density grows: terms of that size are added to it and cancel."""


class CorrectedKernel(Kernel):
    """Gaussians with covariance matrices on rows that hold NaN, by products.

    Missing values are filled with the anchor's centre, so that the kernel of complete rows serves; what depends on the
    filling is taken out of log-densities and statistics (`kernels.incomplete.correction_steps`). Rows without any value
    have log-densities of 0 and add nothing.

    Parameters
    ----------
    dtype : of the rows
    """

    def __init__(self, structure: Covariance, params: Params, dtype: DTypeLike) -> None:
        (self._k, self._d), self._structure = params.means.shape, structure
        self.n_components, self.block_rows = self._k, block_rows(self._k, self._d)
        self._filled = choose_kernel(structure, params, dtype)
        self.dtype, self.float32_products = self._filled.dtype, self._filled.float32_products
        self.path = f"{self._filled.path}, filled and corrected"
        self.rounding = TERMS * max(self._filled.rounding, product_rounding(structure, params))
        self._filling = params.center.astype(dtype)
        self._precisions = cached_by_identity(
            params.means,
            params.precisions_cholesky,
            ("precisions in groups", type(structure), np.dtype(dtype)),
            lambda: _precisions(structure, params, self._filling),
        )
        self._corner = corner_for(self._d)
        self._x: Array = as_rows(np.empty((0, self._d), dtype=dtype))
        self._empty: Array = np.empty(0, dtype=np.int64)
        self._begin()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        lacking = np.isnan(x)
        self._x, self._empty = as_rows(x), np.flatnonzero(lacking.all(axis=1))
        self._filled.load(np.where(lacking, self._filling, x))

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        found = np.empty(out.shape)
        self._filled.log_prob(found)
        kernels.correct_log_prob(self._x, self._precisions, self._corner, found)
        out[...] = found

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        weights = np.array(resp, dtype=np.float64, order="C")
        weights[:, self._empty] = 0.0
        self._filled.accumulate(weights)
        own = self._x, weights, self._precisions, self._corner
        kernels.add_corrections(*own, negligible(self._k), self._first, self._crossed)

    def restart(self) -> None:
        """Begin anew."""
        self._filled.restart()
        self._begin()

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M) or (M,)."""
        found, sets = self._filled.stats(), self._crossed
        crossed = sets.sum(axis=3) if self._structure.shared else from_groups(sets, self._k)
        second = pack(crossed + np.swapaxes(crossed, 1, 2))
        sums = np.column_stack([found.weight, found.first + from_groups(self._first, self._k)])
        return as_stats(sums, found.second + (second[0] if self._structure.shared else second), self._d)

    def _begin(self) -> None:
        groups, d = groups_for(self._k), self._d
        self._first = np.zeros((groups, d, GROUP))
        self._crossed = np.zeros((1 if self._structure.shared else groups, d, d, GROUP))


def corrected_bytes(structure: Covariance, k: int, d: int) -> int:
    """What the kernel holds besides that of filled rows."""
    sets = 1 if structure.shared else groups_for(k)
    corner = GROUP * (2 * d * d + 2 * d + 5) + 2 * d
    rows = block_rows(k, d) * (2 * d + 2 * k)
    return 8 * (GROUP * d * (2 * sets * d + 2 * groups_for(k)) + corner + rows)


def _precisions(structure: Covariance, params: Params, filling: Array) -> Precisions:
    d, factors = params.means.shape[1], params.precisions_cholesky
    matrices = np.reshape(structure.precisions(factors), (-1, d, d))
    return Precisions(
        center=params.center.copy(),
        unscale=1.0 / params.scale,
        volumes=np.log(params.scale) + 0.5 * np.log(2.0 * np.pi),
        filling=(filling.astype(np.float64) - params.center) / params.scale,
        precisions=matrices_in_groups(np.repeat(matrices, GROUP, axis=0) if structure.shared else matrices),
        slopes=in_groups(structure.precision_times(factors, params.means)),
    )
