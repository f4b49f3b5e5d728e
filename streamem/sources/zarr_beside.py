"""One-dimensional arrays of a Zarr store that say something about its rows: where sequences begin, what they weigh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamem.core.addresses import address_of, is_address
from streamem.core.errors import SchemaError, SourceError
from streamem.sources.cf import packing
from streamem.sources.zarr_columns import named_column
from streamem.sources.zarr_integrity import ZarrNode, guarded, locate, require_all_chunks, store_at
from streamem.sources.zarr_variable import attributes_of

READ_BYTES = 2**20


def read_numbers(value: Any, what: str, beside: Any) -> NDArray[Any]:
    """All of an array: given itself, by the name it has beside the data, or by its path.

    Raises
    ------
    SourceError : it cannot be found or read
    """
    array = value if isinstance(value, zarr.Array) else _find(value, what, beside)
    pieces = list(slabs(array))
    return np.concatenate(pieces) if pieces else np.empty(0, array.dtype)


def slabs(array: zarr.Array[Any], fill: bool = False) -> Iterator[NDArray[Any]]:
    """The values of a one-dimensional array, whole units at a time; absent ones filled, if allowed.

    They are as they are stored, whatever their type, unless a packing is declared or some are missing (NaN).

    Raises
    ------
    SchemaError : it has another number of axes
    SourceError : chunks are missing or damaged
    """
    if array.ndim != 1:
        raise SchemaError(f"Zarr array {locate(array)} has shape {array.shape}; one axis is needed")
    if not fill:
        require_all_chunks(array)
    unpacked = packing(attributes_of(array), array.dtype, f"Zarr array {locate(array)}")
    unit = (array.shards or array.chunks)[0]
    step = max(1, READ_BYTES // (8 * unit)) * unit
    safe = guarded(array, refuse_absent=not fill)
    for first in range(0, array.shape[0], step):
        try:
            yield unpacked.known(np.asarray(safe[first : first + step]))
        except SourceError as error:
            raise SourceError(f"Zarr array {locate(array)}: values from {first} on cannot be read: {error}") from error


def group_of(data: Any) -> zarr.Group | None:
    """The group that data is, or that it lies in; None if it is no Zarr."""
    is_path = isinstance(data, str | os.PathLike)
    try:
        node: ZarrNode = zarr.open(store_at(data), mode="r") if is_path else data
        if isinstance(node, zarr.Array) and is_path and not isinstance(node.store, zarr.storage.ZipStore):
            folder = os.fspath(data).rstrip("/").rpartition("/")[0]
            around = store_at(address_of(data).at(folder)) if is_address(data) else folder
            return zarr.open_group(around, mode="r", use_consolidated=False)
        if isinstance(node, zarr.Array):
            return zarr.open_group(node.store, path=node.path.rpartition("/")[0], mode="r", use_consolidated=False)
    except Exception:  # whatever says that nothing is there; reading the data itself tells what is wrong with it
        return None
    return node if isinstance(node, zarr.Group) else None


def _find(name: str | os.PathLike[str], what: str, beside: Any) -> zarr.Array[Any]:
    group = group_of(beside)
    if group is not None and isinstance(name, str) and name in group:
        return named_column(group, name, f"Zarr group {locate(group)}")
    try:
        return zarr.open_array(store_at(name), mode="r")
    except Exception as error:
        known = "" if group is None else f"; the group of the data holds {', '.join(sorted(group)) or 'nothing'}"
        raise SourceError(
            f"{what}={name!r} is neither the name of an array beside the data nor a Zarr array or .npy file: "
            f"{type(error).__name__}{known}"
        ) from error
