"""Rows from Zarr arrays and groups, formats 2 and 3, sharded or not, on disk or elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamem.core.addresses import address_of, is_address
from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts
from streamem.sources.zarr_beside import slabs
from streamem.sources.zarr_columns import default_columns, named_column
from streamem.sources.zarr_dimensions import grid_of
from streamem.sources.zarr_integrity import ZarrNode, locate, path_of, store_at
from streamem.sources.zarr_layout import (
    ZarrLayout,
    array_layout,
    column_nbytes,
    columns_layout,
    read_column,
    require_same_rows,
    row_count,
)
from streamem.sources.zarr_stamp import stamp, what_changed
from streamem.sources.zarr_variable import Variable, open_variable

LARGE_SHARD = 2
"""Times `chunk_bytes`: larger ones are read in parts, as large row groups of Parquet files are."""


@dataclass(frozen=True, eq=False)
class ZarrChunkRef(ChunkRef):
    """Whole storage units of the arrays of a layout: positions first … last − 1 of the first row axis."""

    layout: ZarrLayout
    weight: Variable | None
    first: int
    last: int
    index: int
    start: int
    rows: int

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the rows and their weights."""
        weights = 0 if self.weight is None else 8 * self.rows
        return self.rows * self.layout.n_features * self.layout.dtype.itemsize + weights

    @cached_property
    def load_nbytes(self) -> int:
        """The chunk, what is read before a conversion, and the units that Zarr decodes at once."""
        # Measured (VmHWM, chunk of 64 MiB float32): 187 MiB if stored as one Zarr chunk, 102 as 16, 138 as one shard
        # of 64; int16 96, features first 187. Declared for these: 192, 144, 192, 160, 256.
        positions = self.last - self.first
        weights = 0 if self.weight is None else column_nbytes(self.weight, positions)
        return self.nbytes + max(self.layout.reading_nbytes(positions), weights)

    @property
    def paths(self) -> tuple[str, ...]:
        """Folders or archives of the stores."""
        variables = [*self.layout.variables, *([] if self.weight is None else [self.weight])]
        return tuple(dict.fromkeys(path for each in variables if (path := path_of(each.origin.store))))

    def fetched(self) -> ZarrChunkRef:
        """This handle with its stored bytes in memory, where these are files of one array, or lie far away."""
        positions = slice(self.first, self.last)
        layout = self.layout.fetched(positions)
        if layout is self.layout:
            return self
        weight = self.weight
        return replace(
            self,
            layout=layout,
            weight=weight.fetched(0, positions) if weight is not None and weight.is_far else weight,
        )

    def fetches(self) -> tuple[int, int]:
        """One request a shard or chunk, and their bytes, with those of weights, as if they were not compressed."""
        positions = slice(self.first, self.last)
        requests, nbytes = self.layout.fetches(positions)
        if requests and self.weight is not None:
            nbytes += self.weight.fetches(0, positions)[1]
        return requests, nbytes

    def load(self) -> Chunk:
        """Read and unpack the rows.

        Raises
        ------
        SourceError : a stored chunk is missing, truncated or corrupt
        """
        positions, rows = slice(self.first, self.last), range(self.start, self.start + self.rows)
        x = self.layout.read(positions, rows)
        if self.weight is None:
            return Chunk(x)
        weight = np.empty(self.rows, np.float64)
        read_column(self.weight, positions, rows, weight)
        return Chunk(x, weight)


class ZarrSource(Source):
    """Rows in slabs of whole shards or chunks along the first row axis; the other axes are read in full."""

    def __init__(self, layout: ZarrLayout, weight: Variable | None, chunk_bytes: int, origin: str) -> None:
        self._layout, self._weight, self._chunk_bytes = layout, weight, chunk_bytes
        self.schema = Schema(layout.n_features, layout.dtype, layout.names, weight is not None, origin)
        self.n_rows = row_count(layout)
        self.row_shape = tuple(layout.row_shape)
        self._told = False

    def changes(self) -> str:
        """Which objects of a store are not what they were when the data was opened."""
        surveyed = [(each, survey) for each in self._variables if (survey := each.survey.value) is not None]
        return "; ".join(filter(None, (what_changed(each.origin, survey) for each, survey in surveyed)))

    @property
    def _variables(self) -> list[Variable]:
        return [*self._layout.variables, *([] if self._weight is None else [self._weight])]

    def fingerprint(self) -> str:
        """Metadata, and sizes and modification times of the files that hold chunks (`stamp`).

        The first time it is what the listing said that opened the data, if one did.
        """
        digest = hashlib.blake2b(digest_size=12)
        for variable in self._variables:
            survey = None if self._told else variable.survey.value
            digest.update((stamp(variable.origin) if survey is None else survey.stamp).encode())
        self._told = True
        return f"zarr({self.n_rows}, {self.schema.n_features}){self.schema.dtype}-{digest.hexdigest()}"

    def chunks(self) -> Sequence[ZarrChunkRef]:
        """Neighbouring units, grouped up to `chunk_bytes`; inner chunks where shards are more than twice as large."""
        if self.n_rows == 0:
            return []
        layout = self._layout
        length = layout.row_shape[0]
        inner = self.n_rows // length
        row_nbytes = layout.n_features * layout.dtype.itemsize + (0 if self._weight is None else 8)
        granule = layout.granule(LARGE_SHARD * self._chunk_bytes // max(1, inner * row_nbytes))
        cuts = even_cuts(length, inner * row_nbytes, self._chunk_bytes, min(granule, length))
        return [
            ZarrChunkRef(layout, self._weight, a, b, index, a * inner, (b - a) * inner)
            for index, (a, b) in enumerate(cuts)
        ]


def open(data: Any, options: ReadOptions) -> ZarrSource:
    """Open a Zarr array or group.

    Parameters
    ----------
    data : path or URL, zarr.Array or zarr.Group
        An array is (n, d) or has its features on ``options.feature_axis``. A group holds one array a feature,
        all of one shape (any number of axes, flattened in C order); an only array of two axes is (n, d).
    options : how to read

    Raises
    ------
    SourceError : not Zarr, or damaged: by default also when stored chunks are missing
    SchemaError : arrays that are missing, not numeric, of unequal shapes, or without a feature axis
    """
    node = _open_path(data) if isinstance(data, str | os.PathLike) else data
    if isinstance(node, zarr.Array):
        return _open_array(node, options, f"Zarr array {locate(node)}")
    if isinstance(node, zarr.Group):
        return _open_group(node, options, f"Zarr group {locate(node)}")
    raise SourceError(f"{type(data).__name__} is no Zarr array or group; pass a path, a zarr.Array or a zarr.Group")


def _open_array(array: zarr.Array[Any], options: ReadOptions, origin: str) -> ZarrSource:
    if options.columns is not None or options.weight_column is not None:
        wanted = list(options.columns or ()) + [options.weight_column] * (options.weight_column is not None)
        raise SchemaError(f"{origin} has no columns, so {wanted} cannot be chosen; open the group that holds them")
    return ZarrSource(array_layout(array, options, origin), None, options.chunk_bytes, origin)


def _open_group(group: zarr.Group, options: ReadOptions, origin: str) -> ZarrSource:
    layout = columns_layout(_columns(group, options, origin), options, origin)
    weight = None
    if options.weight_column is not None:
        weight = open_variable(named_column(group, options.weight_column, origin), options)
        require_same_rows({"(rows)": layout.row_shape, options.weight_column: weight.shape}, origin)
    source = ZarrSource(layout, weight, options.chunk_bytes, origin)
    source.grid = grid_of(group, layout)
    return source


def shape_of(data: Any, options: ReadOptions) -> tuple[int, ...] | None:
    """The axes of an array, or of the only feature array of a group; None where there are several."""
    node = _open_path(data) if isinstance(data, str | os.PathLike) else data
    if isinstance(node, zarr.Group):
        arrays = _columns(node, options, f"Zarr group {locate(node)}")
        node = next(iter(arrays.values())) if len(arrays) == 1 else None
    return node.shape if isinstance(node, zarr.Array) else None


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of any one-dimensional array of a group, in order.

    Raises
    ------
    SchemaError : there is no such array
    """
    node = _open_path(data) if isinstance(data, str | os.PathLike) else data
    if not isinstance(node, zarr.Group):
        raise SchemaError(f"Zarr array {locate(node)} has no columns, so {name!r} cannot be read; open its group")
    return slabs(named_column(node, name, f"Zarr group {locate(node)}"), options.missing_chunks == "fill")


def _columns(group: zarr.Group, options: ReadOptions, origin: str) -> dict[str, zarr.Array[Any]]:
    if options.columns is None:
        return default_columns(group, {options.weight_column, *options.left_out}, origin)
    return {name: named_column(group, name, origin) for name in options.columns}


def _open_path(path: str | os.PathLike[str]) -> ZarrNode:
    try:
        node = zarr.open(store_at(path), mode="r")
        if isinstance(node, zarr.Group) and isinstance(node.store, zarr.storage.LocalStore):
            # Consolidated metadata saves nothing here, and hides arrays that were appended to since.
            node = zarr.open_group(os.fspath(path), mode="r", use_consolidated=False)
    except Exception as error:
        if is_address(path):
            address = address_of(path)
            raise SourceError(
                f"{address} cannot be opened as Zarr: {address.told(error)}. An array or a group with zarr.json, "
                ".zarray or .zgroup is needed there"
            ) from None
        raise SourceError(
            f"{path} cannot be opened as Zarr: {type(error).__name__}: {error}. It is "
            f"{_describe(Path(path))}; an array or a group with zarr.json, .zarray or .zgroup is needed"
        ) from error
    if isinstance(node, zarr.Group) and not node.store.supports_listing and node.metadata.consolidated_metadata is None:
        raise SourceError(
            f"{path} is a Zarr group on a web server, which lists no names, and its metadata are not consolidated: "
            "pass the address of one of its arrays, or run zarr.consolidate_metadata where the group was written"
        )
    return node


def _describe(path: Path) -> str:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        return f"a folder holding {', '.join(names[:5]) or 'nothing'}{' …' if len(names) > 5 else ''}"
    return f"a file of {path.stat().st_size} bytes" if path.exists() else "nothing on this machine"
