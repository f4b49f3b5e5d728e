"""Rows of HDF5 files (``x.h5``, ``x.h5/group/data``) and of h5py's objects, in slabs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.core.ports import Source
from streamem.sources.formats.h5_files import H5Place, listed, node_at, place_of, rows_of, values_of
from streamem.sources.formats.h5_parts import ArrayPart, array_part
from streamem.sources.formats.slabs import SlabSource
from streamem.sources.options import ReadOptions


def open(data: Any, options: ReadOptions) -> Source:
    """An HDF5 file, group or dataset; nothing but the slabs of a chunk is ever read.

    A dataset of two axes is (n, d), or has its features on ``options.feature_axis``; fields of a compound dataset are
    columns. In a group, datasets of one axis and of equal length are columns; if there is one dataset only, it is the
    data. Everything else has to be named: by a path that goes on within the file, or with ``columns``.

    Raises
    ------
    SchemaError : nothing is there by that name, no numbers, or several datasets of which none was named
    SourceError : the file cannot be read
    """
    place = place_of(data)
    with place.file.opened() as file:
        node = node_at(file, place)
        parts = _parts(node, place, options)
        weight = None if options.weight_column is None else _weight(node, options.weight_column, place)
        return SlabSource(rows_of(place.file, parts, weight, place.origin), options)


def shape_of(data: Any, options: ReadOptions) -> tuple[int, ...] | None:
    """The axes of a dataset, or of the only one of a group."""
    place = place_of(data)
    with place.file.opened() as file:
        node = node_at(file, place)
        if not hasattr(node, "shape"):
            numeric = _numeric(node, options)
            node = next(iter(numeric.values())) if len(numeric) == 1 and options.columns is None else None
        return None if node is None or node.dtype.names else tuple(node.shape)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of any dataset of one axis in a group, in order.

    Raises
    ------
    SchemaError : there is no such dataset
    """
    place = place_of(data)
    with place.file.opened() as file:
        found = _member(node_at(file, place), name, place).name
    return values_of(place.file, found, place.origin)


def _parts(node: Any, place: H5Place, options: ReadOptions) -> list[ArrayPart]:
    if not hasattr(node, "shape"):
        return _parts_of_group(node, place, options)
    if node.dtype.names:
        wanted = options.columns or [name for name in node.dtype.names if name not in _aside(options)]
        return [_field(node, name, place) for name in wanted]
    if options.columns is not None:
        raise SchemaError(
            f"{place.origin} has no column names, so {list(options.columns)} cannot be chosen; pass the file or group"
        )
    return [array_part(node, place.origin, _feature_axis(node, place.origin, options))]


def _feature_axis(dataset: Any, what: str, options: ReadOptions) -> int:
    axis = options.feature_axis
    if isinstance(axis, str):
        raise SchemaError(f"{what} has no named axes, so feature_axis must be a number, not {axis!r}")
    if axis is None and dataset.ndim == 2:
        return 1
    if axis is None or not -dataset.ndim <= axis < dataset.ndim or dataset.ndim < 2:
        raise SchemaError(
            f"{what} has shape {dataset.shape}; rows are needed as (n, d). Pass feature_axis= to say which axis of a "
            "dataset of several holds the features; one of one axis is a feature where its group is passed"
        )
    return int(axis) % dataset.ndim


def _parts_of_group(group: Any, place: H5Place, options: ReadOptions) -> list[ArrayPart]:
    if options.columns is not None:
        return [_column(_member(group, name, place), name, place) for name in options.columns]
    numeric = _numeric(group, options)
    if len(numeric) == 1:
        (only,) = numeric.values()
        return _parts(only, H5Place(place.file, only.name), options)
    if numeric and all(dataset.ndim == 1 and not dataset.dtype.names for dataset in numeric.values()):
        return [_column(dataset, name, place) for name, dataset in numeric.items()]
    example = next(iter(numeric), "group/data")
    raise SchemaError(
        f"{place.origin} holds {listed(group)}: which of them are the features cannot be told. Name one, "
        f"{place.file.path + '/' + (place.name.strip('/') + '/' + example).strip('/')!r}, or some with columns="
    )


def _numeric(group: Any, options: ReadOptions) -> dict[str, Any]:
    """Datasets of a group that may be features: numbers, or fields, with an axis, and not the scale of one."""
    aside = _aside(options)
    return {
        name: node
        for name, node in group.items()
        if hasattr(node, "shape")
        and name not in aside
        and node.shape
        and (node.dtype.kind in "biuf" or node.dtype.names)
        and node.attrs.get("CLASS", b"") not in (b"DIMENSION_SCALE", "DIMENSION_SCALE")
    }


def _aside(options: ReadOptions) -> set[str | None]:
    return {options.weight_column, *options.left_out}


def _member(group: Any, name: str, place: H5Place) -> Any:
    found = group.get(name) if hasattr(group, "get") and not hasattr(group, "shape") else None
    if found is None or not hasattr(found, "shape"):
        near = difflib.get_close_matches(name, list(getattr(group, "keys", list)()), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        held = listed(group) if hasattr(group, "keys") else "no columns"
        raise SchemaError(f"{place.origin} has no dataset {name!r}; it holds {held}.{hint}")
    return found


def _column(dataset: Any, name: str, place: H5Place) -> ArrayPart:
    what = f"dataset {name!r} of {place.origin}"
    if dataset.ndim == 1:
        return array_part(dataset, what, names=[name])
    if dataset.ndim != 2:
        raise SchemaError(f"{what} has shape {dataset.shape}; a column has one axis, or two with the features last")
    return array_part(dataset, what, 1, names=[f"{name}[{i}]" for i in range(dataset.shape[1])])


def _field(dataset: Any, name: str, place: H5Place) -> ArrayPart:
    if name not in dataset.dtype.names:
        raise SchemaError(f"{place.origin} has no field {name!r}; it has {', '.join(dataset.dtype.names)}")
    if dataset.ndim != 1:
        raise SchemaError(f"{place.origin} has shape {dataset.shape}; a dataset with fields has one axis")
    return array_part(dataset, f"field {name!r} of {place.origin}", field=name, names=[name])


def _weight(node: Any, name: str, place: H5Place) -> ArrayPart:
    if hasattr(node, "shape") and node.dtype.names:
        return _field(node, name, place)
    found = _member(node.parent if hasattr(node, "shape") else node, name, place)
    if found.ndim != 1:
        raise SchemaError(f"weights {name!r} of {place.origin} have shape {found.shape}; one number a row is needed")
    return array_part(found, f"weights {name!r} of {place.origin}", names=[name])
