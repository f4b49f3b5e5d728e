"""What compiled code needs to work on pairs of row and component."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.tiling import STRIP_BYTES
from streamem.machine.thread_buffer import thread_buffers

Array = NDArray[Any]

BLOCK_ROWS = 2064
GROUP_ROWS = 64
"""Rows of a component that are worked on together."""

STRIP_ROWS = STRIP_BYTES // 8
"""Rows of a strip, in float64."""


class Gaussians(NamedTuple):
    """Components, and how far below the best score of a row they matter.

    Attributes
    ----------
    means : (K, d) anchored
    factors : (K, d, d) Uᵀ, lower triangles, or (K, d) their diagonals
    constants : (K,) log-densities at the means
    width : nats below the best score of a row, beyond which a component does not matter
    ordinary : least best score of which that is true
    origins : (K, d) about what second moments are taken, anchored
    """

    means: Array
    factors: Array
    constants: Array
    width: float
    ordinary: float
    origins: Array


class PairBuffers(NamedTuple):
    """Buffers for a block of rows and all pairs that it may have."""

    x: Array
    joint: Array
    rows: Array
    starts: Array
    values: Array
    scratch: Array
    strips: Array
    squares: Array
    plain: Array
    weighted: Array


def moment_columns(d: int) -> int:
    """Columns of a matrix of second moments, filled up to whole strips."""
    return -(-d // STRIP_ROWS) * STRIP_ROWS


def pair_buffers(k: int, d: int) -> PairBuffers:
    """For K components and d features, of this thread."""
    pairs = k * BLOCK_ROWS
    own = buffers_of_block(k, d, BLOCK_ROWS)
    joint, scratch = thread_buffers(("joint", (pairs,), np.float32), ("row sums", (3, BLOCK_ROWS), np.float64))
    return own._replace(joint=joint, scratch=scratch)


def buffers_of_block(k: int, d: int, rows: int) -> PairBuffers:
    """Buffers of pairs for blocks of so many rows, whose scores lie elsewhere."""
    x, of_rows, starts, values, strips, squares, plain, weighted = thread_buffers(
        ("x", (rows, d), np.float64),
        ("rows", (k * rows + 1,), np.int32),  # `select` writes one beyond the last pair
        ("starts", (k + 1,), np.int64),
        ("values", (k * rows,), np.float64),
        ("strips", (GROUP_ROWS // STRIP_ROWS, d, STRIP_ROWS), np.float64),
        ("squares", (GROUP_ROWS,), np.float64),
        ("pairs plain", (GROUP_ROWS, _group_columns(d)), np.float64),
        ("pairs weighted", (GROUP_ROWS, _group_columns(d)), np.float64),
    )
    none, no_sums = np.empty(0, dtype=np.float32), np.empty((3, 0))
    return PairBuffers(x, none, of_rows, starts, values, no_sums, strips, squares, plain, weighted)


def _group_columns(d: int) -> int:
    """One strip more than are needed: rows a power of two apart would meet in a few places of the cache."""
    return moment_columns(d) + STRIP_ROWS


def buffers_bytes(k: int, d: int) -> int:
    """What `pair_buffers` takes."""
    pairs = 16 * k * BLOCK_ROWS + 4 + 8 * (k + 1)
    return pairs + 8 * (BLOCK_ROWS * (d + 3) + GROUP_ROWS * (d + 1 + 2 * _group_columns(d)))


def block_bytes(k: int, d: int, rows: int) -> int:
    """What `buffers_of_block` takes."""
    return 12 * k * rows + 4 + 8 * (k + 1) + 8 * (rows * d + GROUP_ROWS * (d + 1 + 2 * _group_columns(d)))
