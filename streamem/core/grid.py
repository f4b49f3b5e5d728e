"""Rows that are the points of a grid with named dimensions, and what answers about them take over from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class RowGrid:
    """Named dimensions of which rows are the points, in C order.

    Attributes
    ----------
    dims, shape : names and lengths of the dimensions
    chunks : lengths of the stored chunks, or None where nothing tells them
    shards : lengths of the stored shards, or None
    coordinates : names of the coordinates that lie on these dimensions alone
    write : writes a Zarr group of format 3 at a path, which holds these coordinates, and the attributes of the whole
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    shards: tuple[int, ...] | None
    coordinates: frozenset[str]
    write: Callable[[str], None]

    @property
    def rows(self) -> int:
        """How many points there are."""
        return math.prod(self.shape)

    @property
    def inner(self) -> int:
        """Points at one position of the first dimension."""
        return max(1, math.prod(self.shape[1:]))
