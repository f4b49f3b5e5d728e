"""The grid of xarray's rows: its dimensions and stored chunks, and its coordinates written to Zarr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from streamem.core.grid import RowGrid
from streamem.sources.xarray_layout import Rows

KEPT = ("units", "calendar", "dtype", "scale_factor", "add_offset", "_FillValue")
"""How values are encoded; how they were compressed is another format's, or another dimension's."""


def grid_of(data: Any, rows: Rows) -> RowGrid:
    """The grid of a DataArray or Dataset that is read as these rows."""
    dims = tuple(map(str, rows.row_dims))
    own = {str(name): value.variable for name, value in data.coords.items() if set(value.dims) <= set(rows.row_dims)}
    chunks, shards = _stored(rows.variables[0], rows.row_dims)
    return RowGrid(dims, rows.row_shape, chunks, shards, frozenset(own), _Coordinates(own, dict(data.attrs)))


def _stored(variable: Any, dims: tuple[str, ...]) -> tuple[Any, Any]:
    """Lengths of the stored chunks and shards along the row dimensions; None where nothing tells them."""
    if variable.chunks is not None:
        return tuple(max(1, *variable.chunksizes[dim]) for dim in dims), None
    preferred = variable.encoding.get("preferred_chunks") or {}
    if not set(dims) <= set(preferred):
        return None, None
    sizes = (preferred[dim] for dim in dims)
    return tuple(size if isinstance(size, int) else max(1, *size) for size in sizes), None


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """Writes coordinates and attributes; indexes of several levels as their levels."""

    variables: dict[str, Any]
    attributes: dict[str, Any]

    def __call__(self, path: str) -> None:
        """Write a group at `path`."""
        data = xarray.Dataset(coords=self.variables, attrs=self.attributes)
        levels = [name for name in data.dims if name in data.coords and data.indexes[name].nlevels > 1]
        data = data.reset_index(levels) if levels else data
        for name in data.coords:
            encoding, is_text = data.coords[name].encoding, _is_text(data.coords[name].variable)
            if is_text:  # of fixed length, it has no stable name in Zarr's format
                data = data.assign_coords({name: data.coords[name].astype(np.dtypes.StringDType())})
            data.coords[name].encoding = {} if is_text else {key: encoding[key] for key in KEPT if key in encoding}
        data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def _is_text(variable: Any) -> bool:
    """Whether values are text; other objects, such as dates of other calendars, are xarray's to store."""
    if variable.dtype.kind != "O" or not variable.size:
        return variable.dtype.kind in "UT"
    return isinstance(variable[(0,) * variable.ndim].values.item(), str)
