"""Parts of an HDF5 file that are features: datasets, fields of compound ones, sparse matrices in three datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import as_floats
from streamem.core.errors import SchemaError, SourceError
from streamem.sources.cf import Packing, packing, times_in
from streamem.sources.numeric import numeric_dtype

TOGETHER = 2**20
"""Stored values of a sparse matrix that are read at a time."""


class H5Part(ABC):
    """Some features of every row."""

    if TYPE_CHECKING:  # a subclass has fields or properties of these names

        @property
        def names(self) -> tuple[str, ...] | None:
            """Names of the features, if they have any."""

        @property
        def width(self) -> int:
            """Number of features."""

        @property
        def dtype(self) -> np.dtype[Any]:
            """Floats that hold the values."""

        @property
        def row_shape(self) -> tuple[int, ...]:
            """The axes that become rows."""

        @property
        def granule(self) -> int:
            """Positions of the first row axis that have to be decoded together."""

        @property
        def row_nbytes(self) -> int:
            """Bytes that reading a row takes."""

    @abstractmethod
    def read(self, file: Any, first: int, last: int, out: NDArray[Any]) -> None:
        """Write positions first … last − 1 of the first row axis into out (n, width)."""


@dataclass(frozen=True)
class ArrayPart(H5Part):
    """A dataset, or a field of one, whose features lie on an axis, or which is one feature.

    Attributes
    ----------
    place : path in the file
    field : of a compound dataset; None of a plain one
    axis : of the features; None where all axes are rows
    chosen : positions along that axis, or None for all
    """

    place: str
    field: str | None
    axis: int | None
    chosen: tuple[int, ...] | None
    names: tuple[str, ...] | None
    width: int
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    granule: int
    row_nbytes: int
    packed: Packing

    def read(self, file: Any, first: int, last: int, out: NDArray[Any]) -> None:
        """Read a slab, and bring its features to the end."""
        dataset = file[self.place]
        if self.field is not None:
            dataset = dataset.fields(self.field)
        cut = slice(first, last)
        raw = np.asarray(dataset[(slice(None), cut) if self.axis == 0 else cut])
        if self.axis is not None:
            raw = np.moveaxis(raw, self.axis, -1)
            raw = raw if self.chosen is None else raw[..., list(self.chosen)]
        raw = raw.reshape(len(out), self.width)
        if self.packed.is_identity(raw.dtype):
            out[...] = as_floats(raw, out.dtype)
        else:
            self.packed.unpack(raw, out)


def array_part(
    dataset: Any,
    what: str,
    axis: int | None = None,
    field: str | None = None,
    names: Sequence[str] | None = None,
    chosen: Sequence[int] | None = None,
) -> ArrayPart:
    """What a dataset holds.

    Parameters
    ----------
    dataset : h5py.Dataset
    what : the dataset in words
    axis, field, chosen : see `ArrayPart`
    names : of the features; of a dataset with one axis, its own name

    Raises
    ------
    SchemaError : it holds no numbers
    """
    attributes = {name: _plain(dataset.attrs[name]) for name in dataset.attrs if name in READ}
    kind = dataset.dtype if field is None else dataset.dtype[field]
    if (times := times_in(attributes)) is not None:
        raise SchemaError(f"{what} holds {times}, which are not numeric; choose other datasets with columns=")
    packed = packing(attributes, kind, what)
    dtype = packed.dtype(what)
    shape = dataset.shape if axis is None else dataset.shape[:axis] + dataset.shape[axis + 1 :]
    width = 1 if axis is None else dataset.shape[axis] if chosen is None else len(chosen)
    cut_axis = 1 if axis == 0 else 0
    encoded = dataset.chunks is not None and (dataset.compression or dataset.shuffle or dataset.fletcher32)
    granule = int(dataset.chunks[cut_axis]) if encoded else 1
    stored = kind.itemsize if axis is None else dataset.shape[axis] * dataset.dtype.itemsize
    if names is not None and chosen is not None:
        names = [names[i] for i in chosen]
    return ArrayPart(
        place=dataset.name,
        field=field,
        axis=axis,
        chosen=None if chosen is None else tuple(chosen),
        names=None if names is None else tuple(names),
        width=width,
        dtype=dtype,
        row_shape=tuple(shape),
        granule=granule,
        row_nbytes=3 * stored,
        packed=packed,
    )


READ = ("units", "dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class SparsePart(H5Part):
    """A matrix in compressed rows: the datasets ``data``, ``indices`` and ``indptr`` of a group.

    Attributes
    ----------
    place : of the group
    chosen : positions of the features among the columns, or None for all
    """

    place: str
    columns: int
    chosen: tuple[int, ...] | None
    names: tuple[str, ...] | None
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    granule: int = 1

    @property
    def width(self) -> int:
        """Number of features."""
        return self.columns if self.chosen is None else len(self.chosen)

    @property
    def row_nbytes(self) -> int:
        """Where each row began, and at most all of its values with their columns; not more are read than are stored."""
        return 8 + self.columns * (self.dtype.itemsize + 8)

    def read(self, file: Any, first: int, last: int, out: NDArray[Any]) -> None:
        """Zeros, and the stored values in their places."""
        group = file[self.place]
        bounds = np.asarray(group["indptr"][first : last + 1], np.int64)
        if (np.diff(bounds) < 0).any() or len(bounds) != last - first + 1:
            raise SourceError(f"{self.place}/indptr decreases within rows {first}–{last - 1}: the matrix is damaged")
        out[...] = 0
        place = None if self.chosen is None else self._places()
        for start in range(int(bounds[0]), int(bounds[-1]), TOGETHER):
            stop = min(start + TOGETHER, int(bounds[-1]))
            columns = np.asarray(group["indices"][start:stop], np.int64)
            values = np.asarray(group["data"][start:stop])
            rows = np.searchsorted(bounds, np.arange(start, stop), side="right") - 1
            if len(columns) and not (columns.min() >= 0 and columns.max() < self.columns):
                raise SourceError(f"{self.place}/indices names columns beyond {self.columns}: the matrix is damaged")
            if place is not None:
                columns = place[columns]
                rows, columns, values = rows[columns >= 0], columns[columns >= 0], values[columns >= 0]
            np.add.at(out, (rows, columns), as_floats(values, out.dtype))  # a place that is stored twice is a sum

    def _places(self) -> NDArray[np.int64]:
        place = np.full(self.columns, -1)
        place[list(self.chosen or ())] = np.arange(self.width)
        return place


def sparse_part(
    group: Any, what: str, names: Sequence[str] | None = None, chosen: Sequence[int] | None = None
) -> SparsePart:
    """What a group with a matrix in compressed rows holds."""
    rows, columns = (int(n) for n in group.attrs["shape"])
    if names is not None and chosen is not None:
        names = [names[i] for i in chosen]
    chosen = None if chosen is None else tuple(chosen)
    names = None if names is None else tuple(names)
    return SparsePart(group.name, columns, chosen, names, numeric_dtype(group["data"].dtype, what), (rows,))
