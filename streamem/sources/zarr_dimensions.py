"""The grid of a Zarr group's rows: named dimensions, and its coordinates copied to another group."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zarr

from streamem.core.grid import RowGrid
from streamem.sources.zarr_columns import listed_coordinates
from streamem.sources.zarr_layout import MatrixLayout, ZarrLayout
from streamem.sources.zarr_variable import XARRAY_DIMENSIONS, attributes_of, dimension_names


def grid_of(group: zarr.Group, layout: ZarrLayout) -> RowGrid | None:
    """The grid of a group that is read in this layout; None where its dimensions have no names."""
    array = layout.variables[0].origin
    named = dimension_names(array)
    if named is None or None in named or len(set(named)) < len(named):
        return None
    left_out = layout.axis if isinstance(layout, MatrixLayout) else array.ndim
    kept = [axis for axis in range(array.ndim) if axis != left_out]
    dims = tuple(str(named[axis]) for axis in kept)
    names = _coordinates(group, dims)
    shards = None if array.shards is None else tuple(array.shards[axis] for axis in kept)
    chunks = tuple(array.chunks[axis] for axis in kept)
    return RowGrid(dims, tuple(layout.row_shape), chunks, shards, frozenset(names), _Copies(group, tuple(names), dims))


def _coordinates(group: zarr.Group, dims: Sequence[str]) -> list[str]:
    """Arrays of a group that are coordinates on these dimensions alone."""
    arrays = dict(sorted(group.arrays()))
    listed = listed_coordinates(group.attrs).union(*(listed_coordinates(array.attrs) for array in arrays.values()))
    found = []
    for name, array in arrays.items():
        own = dimension_names(array) or (() if array.ndim == 0 else None)
        if own is not None and set(own) <= set(dims) and (name in listed or own == (name,)):
            found.append(name)
    return found


@dataclass(frozen=True, eq=False)
class _Copies:
    """Copies coordinates, chunk by chunk, and attributes of a group."""

    group: zarr.Group
    names: tuple[str, ...]
    dims: tuple[str, ...]

    def __call__(self, path: str) -> None:
        """Write a group at `path`."""
        attributes = {key: value for key, value in self.group.attrs.asdict().items() if key != "coordinates"}
        if beside := [name for name in self.names if name not in self.dims]:
            attributes["coordinates"] = " ".join(beside)
        target = zarr.create_group(path, zarr_format=3, attributes=attributes)
        for name in self.names:
            _copy(self.group[name], target, name)


def _copy(array: Any, target: zarr.Group, name: str) -> None:
    is_text = array.dtype.kind not in "biufcmM"
    attributes = {key: value for key, value in attributes_of(array).items() if key != XARRAY_DIMENSIONS}
    if array.metadata.zarr_format == 2 and array.dtype.kind == "f" and "_FillValue" in attributes:
        packed = struct.pack("<d", float(attributes["_FillValue"]))  # as xarray has it in format 3
        attributes["_FillValue"] = base64.standard_b64encode(packed).decode()
    copy = target.create_array(
        name,
        shape=array.shape,
        dtype=str if is_text else array.dtype,
        chunks=array.chunks,
        shards=array.shards,
        fill_value="" if is_text else array.fill_value,
        dimension_names=dimension_names(array) or (),
        attributes=attributes,
    )
    if array.ndim == 0:
        copy[...] = array[...]
        return
    step = (array.shards or array.chunks)[0]
    for first in range(0, array.shape[0], step):
        values = array[first : first + step]
        copy[first : first + step] = values.astype(object) if is_text else values
