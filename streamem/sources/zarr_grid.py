"""The chunks or shards of a Zarr array: those that its grid could have, and those that are stored.

A grid is only metadata: a few bytes can claim 10¹² chunks, and a sparse cube truly has 10⁸ places of which few are
taken. So what is stored is listed, and no place is asked for one by one unless places are few.
"""

from __future__ import annotations

import math
import os
import re
from array import array as packed
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import collect_aiterator
from zarr.storage import LocalStore

from streamem.core.errors import SourceError

FEW = 2**17
"""Places that are asked for one by one: files of as many chunks are found sooner than folders of them are listed."""

NUMBER = re.compile(r"\d+")


def storage_unit(array: zarr.Array[Any]) -> tuple[int, ...]:
    """The shape of what one key of the store holds: a shard, or else a chunk."""
    return tuple(max(1, size) for size in array.shards or array.chunks)


@dataclass(frozen=True)
class Grid:
    """Where chunks or shards of an array may lie, in C order.

    Attributes
    ----------
    shape : places along each axis
    encode : from a place to its key below the array
    """

    shape: tuple[int, ...]
    encode: Callable[[tuple[int, ...]], str]

    @property
    def size(self) -> int:
        """Number of places."""
        return math.prod(self.shape)

    @property
    def is_legible(self) -> bool:
        """Whether keys can be followed back to their places."""
        return self.size > 0 and self.position(self.key(self.size - 1)) == self.size - 1

    def key(self, position: int) -> str:
        """The key of a place by its number."""
        place = []
        for length in reversed(self.shape):  # of any size: NumPy's unravel_index ends at 2⁶³
            position, at = divmod(position, length)
            place.append(at)
        return self.encode(tuple(reversed(place)))

    def every(self, step: int = 1) -> Iterator[str]:
        """The keys of every `step`-th place."""
        return map(self.key, range(0, self.size, step))

    def spread(self, most: int) -> list[str]:
        """The keys of at most so many places, evenly spaced."""
        return list(self.every(max(1, -(-self.size // most))))

    def position(self, key: str) -> int | None:
        """The number of the place that a key belongs to; None if it belongs to none."""
        place = [int(number) for number in NUMBER.findall(key)][-len(self.shape) :] if self.shape else []
        if len(place) < len(self.shape) or any(at >= size for at, size in zip(place, self.shape, strict=True)):
            return None
        if self.encode(tuple(place)) != key:
            return None
        number = 0
        for at, size in zip(place, self.shape, strict=True):
            number = number * size + at
        return number


def grid_of(array: zarr.Array[Any]) -> Grid:
    """The grid of an array."""
    shape = tuple(-(-size // unit) for size, unit in zip(array.shape, storage_unit(array), strict=True))
    return Grid(shape, array.metadata.encode_chunk_key)


def stored_keys(array: zarr.Array[Any]) -> Iterator[str]:
    """Keys of all that is stored below an array, relative to it."""
    if isinstance(array.store, LocalStore):
        root = str(array.store.root / array.path)
        for folder, _, names in os.walk(root):
            below = os.path.relpath(folder, root).replace(os.sep, "/")
            yield from names if below == "." else (f"{below}/{name}" for name in names)
        return
    prefix = f"{array.path}/" if array.path else ""
    for key in collect_aiterator(array.store.list_prefix(prefix)):
        yield key.removeprefix(prefix)


@dataclass(frozen=True)
class Absent:
    """How many places of a grid are empty, and the key of the first."""

    number: int
    first: str


def absent_chunks(array: zarr.Array[Any]) -> Absent | None:
    """Places of the grid that are empty; None if there are none.

    Raises
    ------
    SourceError : keys are made in a way that cannot be followed back, and are too many to try
    """
    grid = grid_of(array)
    if not grid.size:
        return None
    if grid.size <= FEW or not grid.is_legible:
        return _tried(array, grid)
    return absent_among((place for key in stored_keys(array) if (place := grid.position(key)) is not None), grid)


def absent_among(stored: Iterable[int], grid: Grid) -> Absent | None:
    """Places of a grid that are empty, where those that are taken are known."""
    found = _sorted(stored, grid.size)
    if len(found) == grid.size:
        return None
    return Absent(grid.size - len(found), grid.key(_first_gap(found)))


def _tried(array: zarr.Array[Any], grid: Grid) -> Absent | None:
    """Absent chunks, found by looking for each place of the grid."""
    if grid.size > 64 * FEW:
        raise SourceError(f"a grid of {grid.size} chunks with keys such as {grid.key(0)!r} cannot be checked")
    if isinstance(array.store, LocalStore):
        folder = array.store.root / array.path
        missing = [key for key in grid.every() if not os.path.exists(folder / key)]
    else:
        stored = set(stored_keys(array))
        missing = [key for key in grid.every() if key not in stored]
    return Absent(len(missing), missing[0]) if missing else None


def _sorted(positions: Iterable[int], size: int) -> Sequence[int] | np.ndarray[Any, Any]:
    return np.sort(np.array(packed("q", positions))) if size < 2**63 else sorted(positions)


def _first_gap(positions: Any) -> int:
    """The first number that is not among sorted ones."""
    return bisect_left(range(len(positions)), True, key=lambda number: bool(positions[number] > number))
