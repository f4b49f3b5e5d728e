"""Which arrays of a Zarr group are columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import zarr

from streamem.core.errors import SchemaError
from streamem.sources.cf import times_in
from streamem.sources.zarr_variable import dimension_names


def named_column(group: zarr.Group, name: str, origin: str) -> zarr.Array[Any]:
    """An array of the group by its name; "a/b" lies in the group "a".

    Raises
    ------
    SchemaError : no array has that name
    """
    try:
        found = group[name]
    except KeyError:
        raise SchemaError(f"{origin} has no array {name!r}; it holds {_members(group)}") from None
    if not isinstance(found, zarr.Array):
        raise SchemaError(f"{origin}: {name!r} is a group, not an array; it holds {_members(found, name + '/')}")
    return found


def default_columns(group: zarr.Group, aside: Collection[str | None], origin: str) -> dict[str, zarr.Array[Any]]:
    """All arrays of the group that hold data, by name in alphabetical order.

    Data is numeric and has an axis. Left out are those put `aside`, coordinates (an array named like its only
    dimension, or listed in a ``coordinates`` attribute), times ("days since …") and time spans (``timedelta64``): what
    xarray leaves out.

    Raises
    ------
    SchemaError : none is left
    """
    arrays = dict(sorted(group.arrays()))
    coordinates = listed_coordinates(group.attrs)
    for array in arrays.values():
        coordinates |= listed_coordinates(array.attrs)
    left_out = coordinates | set(aside)
    columns = {name: array for name, array in arrays.items() if name not in left_out and _is_data(name, array)}
    if not columns:
        raise SchemaError(
            f"{origin} has no numeric array that is not a coordinate; it holds {_members(group)}. "
            "Pass columns= with the names of the arrays to use"
        )
    return columns


def _is_data(name: str, array: zarr.Array[Any]) -> bool:
    is_time = times_in(array.attrs) is not None
    return array.dtype.kind in "biuf" and array.ndim > 0 and not is_time and dimension_names(array) != (name,)


def listed_coordinates(attributes: Any) -> set[str | None]:
    """Names in a ``coordinates`` attribute, of a group or an array."""
    listed = attributes.get("coordinates", "")
    return set(listed.split()) if isinstance(listed, str) else set()


def _members(group: zarr.Group, prefix: str = "") -> str:
    return ", ".join(sorted(f"{prefix}{name}" for name in group)) or "nothing"
