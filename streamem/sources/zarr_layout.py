"""How rows lie in Zarr: as one array with a feature axis, or as one array a feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.sources.options import ReadOptions
from streamem.sources.zarr_variable import Variable, dimension_names, open_variable


class ZarrLayout(Protocol):
    """Rows cut along one axis, each position of which holds `inner` rows."""

    @property
    def variables(self) -> Sequence[Variable]:
        """The arrays that hold the features."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of the axes that become rows, in C order; cuts go along the first."""

    def granule(self, most: int) -> int:
        """Positions of the first row axis that are read together; of shards of more than `most`, only a part."""

    @property
    def n_features(self) -> int:
        """Number of features d."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the features, if they have any."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64, of the rows."""

    def read(self, positions: slice, rows: range) -> NDArray[Any]:
        """The rows (n, d) at `positions`, in C order."""

    def fetched(self, positions: slice) -> ZarrLayout:
        """This layout with the stored bytes of `positions` in memory; unchanged where reading makes rows at once."""

    def fetches(self, positions: slice) -> tuple[int, int]:
        """How many requests `fetched` makes, and the most bytes that it holds, of data far away; else 0 and 0."""

    def reading_nbytes(self, positions: int) -> int:
        """Peak bytes while reading so many positions, the rows themselves not included."""


@dataclass(frozen=True, eq=False)
class MatrixLayout:
    """One array; `axis` holds the features, all of the others are rows."""

    variable: Variable
    axis: int

    @property
    def variables(self) -> Sequence[Variable]:
        """The array."""
        return (self.variable,)

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """All axes but that of the features."""
        return self.variable.shape[: self.axis] + self.variable.shape[self.axis + 1 :]

    @property
    def _cut_axis(self) -> int:
        return 1 if self.axis == 0 else 0

    def granule(self, most: int) -> int:
        """Length along the first row axis of a shard or chunk, or of an inner chunk."""
        return self.variable.granule(self._cut_axis, most)

    @cached_property
    def n_features(self) -> int:
        """Length of the feature axis."""
        return self.variable.shape[self.axis]

    @property
    def names(self) -> None:
        """An array's features have none."""
        return None

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array's values."""
        return self.variable.dtype

    def read(self, positions: slice, rows: range) -> NDArray[Any]:
        """The rows, as Zarr read them if nothing needs converting."""
        raw = np.moveaxis(self.variable.read(self._cut_axis, positions, rows), self.axis, -1)
        if self.variable.is_plain:
            return np.ascontiguousarray(raw).reshape(-1, self.n_features)
        out = np.empty(raw.shape, self.dtype)
        self.variable.packing.unpack(raw, out)
        return out.reshape(-1, self.n_features)

    def fetched(self, positions: slice) -> MatrixLayout:
        """This layout, with the stored bytes of its array in memory."""
        variable = self.variable.fetched(self._cut_axis, positions)
        return self if variable is self.variable else replace(self, variable=variable)

    def fetches(self, positions: slice) -> tuple[int, int]:
        """Requests and bytes of the array."""
        return self.variable.fetches(self._cut_axis, positions)

    def reading_nbytes(self, positions: int) -> int:
        """The units being decoded and, where the rows are converted or transposed, what was read."""
        as_read = self.variable.is_plain and self.axis == len(self.variable.shape) - 1
        stored = 0 if as_read else self.variable.stored_nbytes(self._cut_axis, positions)
        return stored + self.variable.decoding_nbytes(self._cut_axis, positions)


@dataclass(frozen=True, eq=False)
class ColumnsLayout:
    """One array a feature, all of the same shape; every axis is rows."""

    variables: tuple[Variable, ...]
    names: tuple[str, ...]

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """The common shape."""
        return self.variables[0].shape

    def granule(self, most: int) -> int:
        """The longest that is read together along the first axis."""
        return max(variable.granule(0, most) for variable in self.variables)

    @cached_property
    def n_features(self) -> int:
        """Number of arrays."""
        return len(self.variables)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """float32 if that is exact for all."""
        return np.result_type(*(variable.dtype for variable in self.variables))

    def read(self, positions: slice, rows: range) -> NDArray[Any]:
        """The rows, filled array by array."""
        out = np.empty((len(rows), self.n_features), self.dtype)
        for column, variable in enumerate(self.variables):
            read_column(variable, positions, rows, out[:, column])
        return out

    def fetched(self, positions: slice) -> ColumnsLayout:
        """This layout with the stored bytes of arrays far away in memory; on disk one array at a time takes less."""
        if not all(variable.is_far for variable in self.variables):
            return self
        return replace(self, variables=tuple(variable.fetched(0, positions) for variable in self.variables))

    def fetches(self, positions: slice) -> tuple[int, int]:
        """Requests of one array, after which come those of the next, and bytes of all."""
        told = [variable.fetches(0, positions) for variable in self.variables]
        if not all(requests for requests, _ in told):
            return 0, 0
        return max(requests for requests, _ in told), sum(nbytes for _, nbytes in told)

    def reading_nbytes(self, positions: int) -> int:
        """What is read of one array at a time, and the units being decoded."""
        return max(column_nbytes(variable, positions) for variable in self.variables)


def read_column(variable: Variable, positions: slice, rows: range, out: NDArray[Any]) -> None:
    """Write the values at `positions` of the first axis, flattened in C order, into `out` (n,)."""
    variable.packing.unpack(variable.read(0, positions, rows).reshape(-1), out)


def column_nbytes(variable: Variable, positions: int) -> int:
    """Peak bytes of `read_column`; a mask of missing values is at most as large as what was read."""
    masks = 1 if variable.packing.missing else 0
    return (1 + masks) * variable.stored_nbytes(0, positions) + variable.decoding_nbytes(0, positions)


def array_layout(array: zarr.Array[Any], options: ReadOptions, origin: str) -> MatrixLayout:
    """The layout of one array.

    Raises
    ------
    SchemaError : it is not clear which axis holds the features
    """
    return MatrixLayout(open_variable(array, options), _feature_axis(array, options.feature_axis, origin))


def _feature_axis(array: zarr.Array[Any], wanted: int | str | None, origin: str) -> int:
    if array.ndim < 2:
        raise SchemaError(
            f"{origin} has shape {array.shape}; rows are needed as (n, d). Store one feature as (n, 1), or put "
            "the arrays of several features into a group and open the group"
        )
    names = dimension_names(array)
    if isinstance(wanted, str) and names is not None and wanted in names:
        return names.index(wanted)
    if wanted is None and array.ndim == 2:
        return 1
    if not isinstance(wanted, int) or not -array.ndim <= wanted < array.ndim:
        named = "" if names is None else f" and dimensions {list(names)}"
        raise SchemaError(
            f"{origin} has shape {array.shape}{named}, and feature_axis is {wanted!r}. Pass feature_axis= "
            f"(0 … {array.ndim - 1}) to say which axis holds the features (open_source takes it in ReadOptions); the "
            "others become rows"
        )
    return wanted % array.ndim


def columns_layout(arrays: dict[str, zarr.Array[Any]], options: ReadOptions, origin: str) -> ZarrLayout:
    """The layout of one array a column; an only array of two axes is the matrix (n, d).

    Raises
    ------
    SchemaError : the arrays' shapes, or the order of their dimensions, differ
    """
    first = next(iter(arrays.values()))
    if len(arrays) == 1 and (options.feature_axis is not None or first.ndim == 2):
        return array_layout(first, options, f"{origin}, array {next(iter(arrays))!r},")
    if options.feature_axis is not None:
        raise SchemaError(
            f"{origin}: feature_axis={options.feature_axis!r} fits one array, not the columns {list(arrays)}; leave "
            "it out, or name one column"
        )
    require_same_rows({name: array.shape for name, array in arrays.items()}, origin)
    require_same_dimensions(arrays, origin)
    return ColumnsLayout(tuple(open_variable(array, options) for array in arrays.values()), tuple(arrays))


def require_same_rows(shapes: dict[str, tuple[int, ...]], origin: str) -> None:
    """Raise `SchemaError`, listing names and shapes, unless all are equal and not ()."""
    if len(set(shapes.values())) > 1 or () in shapes.values():
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise SchemaError(
            f"{origin}: columns must share one shape of at least one axis, and these do not: {listed}. "
            "Pass columns= with the names of those that belong together"
        )


def require_same_dimensions(arrays: dict[str, zarr.Array[Any]], origin: str) -> None:
    """Raise `SchemaError` if the names of dimensions differ: equal lengths would hide rows that are mixed up."""
    found = {name: dims for name, array in arrays.items() if (dims := dimension_names(array)) is not None}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} {dims}" for name, dims in found.items())
        raise SchemaError(
            f"{origin}: the dimensions of the columns differ: {listed}. Write them in one order, or pass "
            "columns= with the names of those that belong together"
        )


def row_count(layout: ZarrLayout) -> int:
    """Number of rows n."""
    return math.prod(layout.row_shape)
