"""What a result looks like, what a format must offer, and the cutting of rows into its blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.core.grid import RowGrid

Categories = tuple[tuple[Any, ...] | None, ...]
"""Of columns whose numbers are codes the values that they stand for, None for others."""


@dataclass(frozen=True)
class ResultGrid:
    """What a Zarr result of rows on a grid looks like: a group with one variable beside coordinates.

    Attributes
    ----------
    rows : the grid of the rows
    name : of the variable
    extra : name of the dimension of several columns, which is the last; None of results without
    labels : of the columns, where there is such a dimension
    """

    rows: RowGrid
    name: str
    extra: str | None = None
    labels: tuple[int, ...] | tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultLayout:
    """What a result will look like: rows, width, dtype and names.

    Attributes
    ----------
    rows : how many in all
    width : columns; None for one number a row, written as arrays (b,) instead of (b, width)
    dtype : bool, integer or float; integers are only written if they fit it safely, floats are rounded to it
    names : of the columns: Parquet columns, attribute "names" of a Zarr array, ignored by ``.npy``
    chunk_rows : rows a Zarr chunk
    block_bytes : target size of a Parquet row group, of at most 2^20 rows
    grid : for a ``.zarr``, the dimensions of the rows; None makes one array
    categories : of columns whose numbers are codes the values that a ``.parquet`` holds instead, None for others
    """

    rows: int
    width: int | None
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    chunk_rows: int
    block_bytes: int = 2**25
    grid: ResultGrid | None = None
    categories: Categories = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))
        object.__setattr__(self, "names", tuple(self.names))
        if self.rows < 0 or min(self.chunk_rows, self.block_bytes) < 1 or (self.width is not None and self.width < 1):
            raise ParameterError(
                f"rows={self.rows}, width={self.width}, chunk_rows={self.chunk_rows}, block_bytes={self.block_bytes}: "
                "rows must be >= 0, width None or >= 1, chunk_rows and block_bytes >= 1"
            )
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise ParameterError(f"results of dtype {self.dtype} cannot be written; use bool, integers or floats")
        columns = self.width or 1
        if len(self.names) != columns or len(set(self.names)) != columns:
            raise ParameterError(f"{columns} columns need as many different names, not {list(self.names)}")

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of an array of `rows` rows."""
        return (rows,) if self.width is None else (rows, self.width)

    def without_coordinates(self) -> ResultLayout:
        """This layout for those who write rows of a place that is made already: it is small."""
        if self.grid is None:
            return self
        return replace(self, grid=replace(self.grid, rows=replace(self.grid.rows, write=_nothing)))

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * (self.width or 1)

    def conform(self, values: NDArray[Any], what: object) -> NDArray[Any]:
        """`values`, if they are rows of this layout.

        Raises
        ------
        ParameterError : another shape, or a dtype that does not cast
        """
        values = np.asarray(values)
        if values.ndim == 0 or values.shape != self.shape(len(values)):
            raise ParameterError(f"{what} takes rows of shape {self.shape(0)[1:]}, not {values.shape[1:]}")
        casting: Literal["same_kind", "safe"] = "same_kind" if self.dtype.kind == "f" else "safe"
        if not np.can_cast(values.dtype, self.dtype, casting):
            raise ParameterError(f"{what} takes {self.dtype}, and {values.dtype} does not cast to it")
        return values


def _nothing(path: str) -> None:
    """Write no coordinates."""


class Writer(Protocol):
    """A writer of one file, or of a part of one. It may write to the place it was opened for, and nowhere else."""

    @property
    def block_rows(self) -> int:
        """Rows in every `append` but the last."""

    def append(self, values: NDArray[Any]) -> None:
        """Write the next block, in the dtype of the layout; the array is reused afterwards."""

    def close(self) -> None:
        """Finish and close the file. May be called again after a failure."""


class Format(Protocol):
    """What the module of a format offers."""

    def open(self, path: Path, layout: ResultLayout) -> Writer:
        """Start a new result."""

    def create(self, path: Path, layout: ResultLayout) -> None:
        """Make the place for a result that is written in parts."""

    def open_part(self, path: Path, layout: ResultLayout, number: int, first: int, rows: int) -> Writer:
        """Write rows first … first + rows − 1 of what `create` made; `number` counts parts."""

    def granule(self, layout: ResultLayout) -> int:
        """Parts begin at multiples of so many rows."""

    def held_nbytes(self, layout: ResultLayout) -> int:
        """Peak bytes of a writer and of the block that it is given."""


class Blocks:
    """Cuts rows into the blocks of a writer, whatever the pieces they come in. Memory: one block."""

    def __init__(self, writer: Writer, layout: ResultLayout, rows: int) -> None:
        self._writer, self._filled = writer, 0
        self._block = np.empty(layout.shape(min(writer.block_rows, rows)), layout.dtype)

    def add(self, values: NDArray[Any]) -> None:
        """Take the next rows; full blocks are written."""
        while len(values):
            piece = values[: len(self._block) - self._filled]
            self._block[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            if self._filled == len(self._block):
                self.flush()
            values = values[len(piece) :]

    def flush(self) -> None:
        """Write what is left."""
        if self._filled:
            self._writer.append(self._block[: self._filled])
        self._filled = 0
