"""What compiled code needs to find the few rows to which a component matters that goes by differences."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.pairs.pair_buffers import Gaussians
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]


class Apart(NamedTuple):
    """S components whose pairs are found by their distance in r features.

    Attributes
    ----------
    gaussians : the components; factors may be (1, d, d), one for all
    used : (U,) the features that serve any component
    places : (S, r) where those of each component are in `used`
    middles : (S, r) means
    roots : (S, r, r) lower triangles that whiten them
    """

    gaussians: Gaussians
    used: Array
    places: Array
    middles: Array
    roots: Array


class Room(NamedTuple):
    """Buffers for the pairs of a block of at most `rows` rows with S components.

    Attributes
    ----------
    marks : (U · rows,) features that tell components apart, rows last
    bounds : (S · rows,) of log-densities, from above
    best, cut, white : (rows,) the largest bound, below what a pair does not matter, and a sum
    high, inverse, active, factor, touched : (rows,) see `join_pairs` and `count_active`
    top, first_rows : (rows,) the component with the largest bound, and the rows of each
    first_starts, begins : (S + 1,) where the rows of each component begin
    first_values : (rows,)
    """

    marks: Array
    bounds: Array
    best: Array
    cut: Array
    white: Array
    high: Array
    inverse: Array
    active: Array
    factor: Array
    touched: Array
    top: Array
    first_rows: Array
    first_starts: Array
    begins: Array
    first_values: Array


def room_of(apart: Apart, rows: int) -> Room:
    """For blocks of so many rows, of this thread."""
    count = len(apart.gaussians.means)
    numbers, whole = thread_buffer("apart rows", (8, rows)), thread_buffer("apart first rows", (2, rows), np.int32)
    starts = thread_buffer("apart starts", (2, count + 1), np.int64)
    return Room._make(
        [
            thread_buffer("apart marks", (apart.used.size * rows,)),
            thread_buffer("apart bounds", (count * rows,)),
            *numbers,
            *whole,
            *starts,
            thread_buffer("apart values", (rows,)),
        ]
    )


def room_bytes(count: int, used: int, rows: int) -> int:
    """What `room_of` takes."""
    return 8 * (rows * (used + count + 10) + 2 * (count + 1))
