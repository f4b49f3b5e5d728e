"""One Zarr array as numbers: read along an axis, unpacked, with its dimensions' names and its cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamem.core.errors import SchemaError, SourceError, StreamemError
from streamem.sources.cf import Packing, packing, times_in
from streamem.sources.options import ReadOptions
from streamem.sources.ranges import GAP_NBYTES
from streamem.sources.store_marks import OfThisProcess
from streamem.sources.zarr_bounded import most_stored
from streamem.sources.zarr_direct import DirectReader, direct_reader
from streamem.sources.zarr_far import FarObjects, HeldPart, is_far
from streamem.sources.zarr_grid import storage_unit
from streamem.sources.zarr_integrity import guarded, locate, require_all_chunks
from streamem.sources.zarr_shards import Sharding, read_parts, sharding_of
from streamem.sources.zarr_stamp import surveyed

XARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"
NO_SURVEY = OfThisProcess()


def dimension_names(array: zarr.Array[Any]) -> tuple[str | None, ...] | None:
    """The names of an array's dimensions: from the metadata of Zarr v3, from xarray's attribute in v2."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get(XARRAY_DIMENSIONS)
    return tuple(named) if isinstance(named, list | tuple) and len(named) == array.ndim else None


@dataclass(frozen=True, eq=False)
class Variable:
    """An array of numbers (any shape) in a Zarr store.

    Attributes
    ----------
    array : read through the guard of `zarr_integrity`; the origin, of which no chunk is read, where `direct` reads
    origin : the array as it was opened, for its fingerprint
    packing : how stored numbers become values
    dtype : float32 or float64, of the values
    direct : a shorter way to the same numbers, where there is one
    refuse_absent : whether an absent chunk is an error, or the fill value
    survey : what a listing said when the array was opened (a `Survey`), of one far away
    """

    array: zarr.Array[Any]
    origin: zarr.Array[Any]
    packing: Packing
    dtype: np.dtype[Any]
    direct: DirectReader | None = None
    refuse_absent: bool = True
    survey: OfThisProcess = NO_SURVEY

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @cached_property
    def unit(self) -> tuple[int, ...]:
        """Shape of a shard, or of a chunk if there are no shards."""
        return storage_unit(self.array)

    @cached_property
    def is_plain(self) -> bool:
        """Whether stored numbers are the values, bit for bit."""
        return self.packing.is_identity(self.dtype)

    def read(self, axis: int, positions: slice, rows: range) -> NDArray[Any]:
        """The stored numbers at `positions` of `axis`, all of the other axes; `rows` are named in errors.

        Raises
        ------
        SourceError : a chunk is missing, truncated or corrupt
        """
        selection = (slice(None),) * axis + (positions,)
        try:
            if self.direct is not None:
                return self.direct.read(axis, positions)
            return np.asarray(self.array[selection])
        except MemoryError:
            raise
        except Exception as error:
            cause = str(error) if isinstance(error, StreamemError) else f"{type(error).__name__}: {error}"
            raise SourceError(
                f"Zarr array {locate(self.origin)}: rows {rows.start}–{rows.stop - 1} cannot be read: {cause}; "
                "restore the chunk or write the array again"
            ) from error

    def fetched(self, axis: int, positions: slice) -> Variable:
        """This array with the stored bytes of `positions` in memory, where it is read directly or lies far away."""
        if self.direct is not None:
            return replace(self, direct=self.direct.fetch(axis, positions))
        if not self.is_far:
            return self
        objects, prefix = FarObjects(self.origin.store, self.origin.path), f"{self.origin.path}/".lstrip("/")
        wanted = {
            self.origin.metadata.encode_chunk_key(place): self._within(axis, place[axis], positions)
            for place in product(*self._units(axis, positions))
        }
        parts = {key: within for key, within in wanted.items() if within is not None}
        whole = [key for key in wanted if key not in parts]
        held: dict[str, bytes | memoryview | HeldPart] = {}
        if whole:
            held |= objects.read_all(whole, most_stored(self.origin))
        if parts and self.sharding is not None:
            held |= read_parts(objects, self.sharding, axis, parts)
        held = {prefix + key: stored for key, stored in held.items()}
        return replace(self, array=guarded(self.origin, self.refuse_absent, held))

    def _within(self, axis: int, place: int, positions: slice) -> slice | None:
        """Which inner chunks along an axis hold positions of a shard; None for all that there are."""
        first, stop = place * self.unit[axis], min((place + 1) * self.unit[axis], self.shape[axis])
        if not self.has_parts or (positions.start <= first and positions.stop >= stop):
            return None
        inner = self.origin.chunks[axis]
        low, high = max(positions.start, first) - first, min(positions.stop, stop) - first
        return slice(low // inner, -(-high // inner))

    def _units(self, axis: int, positions: slice) -> list[range]:
        """Places in the grid of the shards or chunks that hold the positions."""
        grid = [range(-(-size // step)) for size, step in zip(self.shape, self.unit, strict=True)]
        unit = self.unit[axis]
        grid[axis] = range(positions.start // unit, -(-min(positions.stop, self.shape[axis]) // unit))
        return grid

    @cached_property
    def is_far(self) -> bool:
        """Whether the store answers after a while only."""
        return is_far(self.origin.store)

    def fetches(self, axis: int, positions: slice) -> tuple[int, int]:
        """How many objects hold the positions, of an array far away, and the most bytes that are read; else 0 and 0."""
        if not self.is_far:
            return 0, 0
        units = math.prod(map(len, self._units(axis, positions)))
        if not self.has_parts:
            return units, units * math.prod(self.unit) * self.array.dtype.itemsize
        inner = self._inner_grid(axis, positions)
        number = math.prod(inner)
        gaps = GAP_NBYTES if number > inner[axis] else 0  # chunks of other axes lie between
        return units, number * (self._inner_nbytes + gaps) + units * self._index_nbytes

    @cached_property
    def sharding(self) -> Sharding | None:
        """How parts of shards far away are read; None where Zarr has to find out by itself."""
        return None if self.origin.shards is None else sharding_of(self.origin)

    @cached_property
    def has_parts(self) -> bool:
        """Whether inner chunks of a shard can be read without the others."""
        return self.sharding is not None

    def granule(self, axis: int, most: int) -> int:
        """Positions of an axis that are read together: a unit, or of a shard of more than `most`, an inner chunk."""
        return self.array.chunks[axis] if self.unit[axis] > most and self.has_parts else self.unit[axis]

    def _inner_grid(self, axis: int, positions: slice) -> list[int]:
        """Inner chunks along each axis that hold the positions."""
        inner = self.array.chunks
        grid = [-(-size // step) for size, step in zip(self.shape, inner, strict=True)]
        grid[axis] = -(-min(positions.stop, self.shape[axis]) // inner[axis]) - positions.start // inner[axis]
        return grid

    @cached_property
    def _inner_nbytes(self) -> int:
        return math.prod(self.array.chunks) * int(self.array.dtype.itemsize)

    @cached_property
    def _index_nbytes(self) -> int:
        return 0 if self.sharding is None else self.sharding.index_nbytes

    def stored_nbytes(self, axis: int, positions: int) -> int:
        """Bytes of the stored numbers of so many positions of `axis`."""
        others = math.prod(self.shape[:axis] + self.shape[axis + 1 :])
        return positions * others * self.array.dtype.itemsize

    def decoding_nbytes(self, axis: int, positions: int) -> int:
        """Bytes of the units that are held at once while they are read: each compressed and decoded, or, where they are
        fetched before they are decoded one by one, all of them compressed."""
        concurrent = int(zarr.config.get("async.concurrency"))
        if self.has_parts and positions < self.unit[axis]:  # the inner chunks of a part are all read, then decoded
            number = math.prod(self._inner_grid(axis, slice(0, positions)))
            return (number + 2 * min(number, concurrent)) * self._inner_nbytes
        grid = [-(-size // unit) for size, unit in zip(self.shape, self.unit, strict=True)]
        grid[axis] = -(-positions // self.unit[axis])
        units = math.prod(grid)
        held = 2 * min(units, concurrent)
        if self.direct is not None:
            held = max(held, units + 1)
        return held * math.prod(self.unit) * self.array.dtype.itemsize


def open_variable(array: zarr.Array[Any], options: ReadOptions) -> Variable:
    """An array, checked: numeric, and every chunk there.

    Raises
    ------
    SchemaError : the values are no numbers, or stand for times
    SourceError : chunks are missing, or the packing cannot be understood
    """
    what = f"Zarr array {locate(array)}"
    attributes = attributes_of(array)
    if (times := times_in(attributes)) is not None:
        raise SchemaError(
            f"{what} holds {times}, which is not numeric; leave it out, or, to have the numbers as they are stored, "
            "pass what xarray.open_zarr(…, decode_times=False) gives"
        )
    unpacking = packing(attributes, array.dtype, what)
    dtype = unpacking.dtype(what)
    refuse_absent = options.missing_chunks == "error"
    survey = surveyed(array) if is_far(array.store) else None
    if refuse_absent:
        require_all_chunks(array, options, survey)
    direct, known = direct_reader(array, refuse_absent), NO_SURVEY if survey is None else OfThisProcess(survey)
    read = array if direct is not None else guarded(array, refuse_absent)
    return Variable(read, array, unpacking, dtype, direct, refuse_absent, known)


def attributes_of(array: zarr.Array[Any]) -> dict[str, Any]:
    """The attributes, with what xarray keeps elsewhere: in Zarr v2 the fill value is its ``_FillValue``."""
    attributes = array.attrs.asdict()
    if array.metadata.zarr_format == 2 and XARRAY_DIMENSIONS in attributes and array.fill_value is not None:
        attributes["_FillValue"] = np.asarray(array.fill_value).tolist()
    return attributes
