"""When the features 1, x̃ and x̃² are summed over rows as they lie, and how. Numba loads with the first rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.kernels.tiling import in_strips
from streamem.machine.lanes import VECTOR_BYTES
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

LINE_BYTES = 64
"""Of a cache."""

BLOCK_ROWS = 128
"""Of 16 to 128 the best, or as good, from 64 to 1,024 features."""

LEAST_ROW_BYTES = 256
"""Below, turning rows costs less than summing across vectors."""


def suits_rows(k: int, row_bytes: int) -> bool:
    """Whether K components of rows of so many bytes are faster with vectors along a row than along the rows.

    Measured on AVX2 only, as strips were.
    """
    return row_bytes >= LEAST_ROW_BYTES and in_strips(k)


class DiagonalRows(NamedTuple):
    """What passes over rows as they lie work with; blocks have as many rows as z.

    Attributes
    ----------
    coefficients, center, unscale : see `DiagonalParams`
    z : (rows of a block, at least width) buffer for anchored rows, 0 beyond the last feature
    totals : (K, rows of a block) float64, weights by place in a block
    sums : (2K, width) float64, of x̃ and of x̃² for each component in turn
    """

    coefficients: Array
    center: Array
    unscale: Array
    z: Array
    totals: Array
    sums: Array


class DiagonalParams(NamedTuple):
    """Parameters of an E-step over rows as they lie.

    Attributes
    ----------
    constants : (K,)
    coefficients : (2K, width) slope and curvature of each component in turn, in whole vectors, of the products' dtype
    center, unscale : (d,) float64, x̃ = (x − center) · unscale
    """

    constants: Array
    coefficients: Array
    center: Array
    unscale: Array

    def mix(self, x: Array, weight: Array, log_weights: Array, least: float, sums: Array) -> tuple[float, float]:
        """Log-likelihood and number of active pairs of rows x (n, d); adds to sums (at least 1 + 2d, K)."""
        own, dtype = self.rows(x.shape[1]), self.coefficients.dtype
        joint, scratch = self.buffers()
        starting = (log_weights + self.constants).astype(dtype)
        _, log_likelihood, pairs = kernels.mixture_pass(x, weight, starting, own, joint, scratch, dtype.type(least))
        add_diagonal_sums(own, x.shape[1], sums)
        return log_likelihood, pairs

    def rows(self, d: int) -> DiagonalRows:
        """What a pass over rows of d features works with, its sums at 0."""
        (rows_of_k, width), dtype = self.coefficients.shape, self.coefficients.dtype
        z = thread_buffer("squares z", (BLOCK_ROWS, _stride(width, dtype.itemsize)), dtype)
        z[:, d:] = 0
        totals, moments = np.zeros((rows_of_k // 2, BLOCK_ROWS)), np.zeros((rows_of_k, width))
        return DiagonalRows(self.coefficients, self.center, self.unscale, z, totals, moments)

    def buffers(self) -> tuple[Array, Array]:
        """Log-densities (K · rows,) and row sums (3, rows) of a block."""
        dtype = self.coefficients.dtype
        joint = thread_buffer("joint", (len(self.constants) * BLOCK_ROWS,), dtype)
        return joint, thread_buffer("row sums", (3, BLOCK_ROWS), dtype)


def add_diagonal_sums(own: DiagonalRows, d: int, sums: Array) -> None:
    """sums (at least 1 + 2d, K) += weights, and sums of x̃ and x̃² of d features."""
    sums[0] += own.totals.sum(axis=1)
    sums[1 : 1 + d] += own.sums[0::2, :d].T
    sums[1 + d : 1 + 2 * d] += own.sums[1::2, :d].T


def diagonal_params_of(natural: Array, center: Array, unscale: Array) -> DiagonalParams:
    """Coefficients of squares from natural parameters (K, at least 1 + 2d), in their dtype."""
    k, d = len(natural), len(center)
    lanes = VECTOR_BYTES // natural.itemsize
    coefficients = np.zeros((2 * k, -(-d // lanes) * lanes), dtype=natural.dtype)
    coefficients[0::2, :d] = natural[:, 1 : 1 + d]
    coefficients[1::2, :d] = natural[:, 1 + d : 1 + 2 * d]
    return DiagonalParams(natural[:, 0].astype(np.float64), coefficients, center.copy(), unscale)


def _stride(width: int, itemsize: int) -> int:
    """Numbers from row to row: an odd number of lines, so that a column of a block meets all sets of the cache."""
    line = LINE_BYTES // itemsize
    return (-(-width // line) | 1) * line
