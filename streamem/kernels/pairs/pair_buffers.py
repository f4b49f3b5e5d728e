"""What compiled code needs to work on pairs of row and component."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.tiling import STRIP_BYTES
from streamem.machine.thread_buffer import thread_buffer

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
    return PairBuffers(
        x=thread_buffer("x", (BLOCK_ROWS, d)),
        joint=thread_buffer("joint", (pairs,), np.float32),
        rows=thread_buffer("rows", (pairs + 1,), np.int32),  # `select` writes one beyond the last pair
        starts=thread_buffer("starts", (k + 1,), np.int64),
        values=thread_buffer("values", (pairs,)),
        scratch=thread_buffer("row sums", (3, BLOCK_ROWS)),
        strips=thread_buffer("strips", (GROUP_ROWS // STRIP_ROWS, d, STRIP_ROWS)),
        squares=thread_buffer("squares", (GROUP_ROWS,)),
        plain=thread_buffer("pairs plain", (GROUP_ROWS, _group_columns(d))),
        weighted=thread_buffer("pairs weighted", (GROUP_ROWS, _group_columns(d))),
    )


def buffers_of_block(k: int, d: int, rows: int) -> PairBuffers:
    """Buffers of pairs for blocks of so many rows, whose scores lie elsewhere."""
    return PairBuffers(
        x=thread_buffer("x", (rows, d)),
        joint=np.empty(0, dtype=np.float32),
        rows=thread_buffer("rows", (k * rows + 1,), np.int32),
        starts=thread_buffer("starts", (k + 1,), np.int64),
        values=thread_buffer("values", (k * rows,)),
        scratch=np.empty((3, 0)),
        strips=thread_buffer("strips", (GROUP_ROWS // STRIP_ROWS, d, STRIP_ROWS)),
        squares=thread_buffer("squares", (GROUP_ROWS,)),
        plain=thread_buffer("pairs plain", (GROUP_ROWS, _group_columns(d))),
        weighted=thread_buffer("pairs weighted", (GROUP_ROWS, _group_columns(d))),
    )


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
