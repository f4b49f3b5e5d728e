"""What passes over codes of categories work with."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class Codes(NamedTuple):
    """A table of log-probabilities, and the statistics that are added to.

    Attributes
    ----------
    starts : (d + 1,) where the codes of each column begin in the table
    absent : the place of a value that was not observed, behind all codes, or −1 where none may be missing
    table : (V, width) log-probabilities, or (V + 1, width) with a last row of zeros for what is missing; the width is
        K, filled up to whole vectors
    places : (rows of a block, d) int32, buffer for places in the table
    near : (rows of a tile, width) buffer
    resp : (rows of a block, width) buffer
    sums, occupied : shape of the table, and (width,)
    """

    starts: Array
    absent: int
    table: Array
    places: Array
    near: Array
    resp: Array
    sums: Array
    occupied: Array


class GroupCodes(NamedTuple):
    """Codes of groups of rows, all rows of one by the same component: what is a row to a pass is a group here.

    Attributes
    ----------
    places : (n, d) int32 places in the table of all rows
    spans : (groups of a block, 2) buffer for the first row of each group and the one after its last
    table, near : as in `Codes`
    resp : (groups of a block, width) buffer
    sums : shape of the table
    weight : (width,) of rows
    occupied : (width,) of groups
    """

    places: Array
    spans: Array
    table: Array
    near: Array
    resp: Array
    sums: Array
    weight: Array
    occupied: Array
