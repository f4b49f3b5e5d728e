"""From Arrow tables to one C-order buffer of floats."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamem.core import loops
from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError, SourceChangedError
from streamem.sources.category_codes import write_codes
from streamem.sources.columns import Column, TableLayout, is_number
from streamem.sources.plain_arrow import plain

MANY = 2**14
"""Values of columns that lie apart from which on it pays to write them in one compiled call."""

TOGETHER = 2**18
"""Values that are converted at a time: two mebibytes where they are no floats, or some are missing."""


def gather(layout: TableLayout, rows: int, pieces: Iterable[Any], what: str) -> Chunk:
    """Fill one chunk from tables or record batches that follow each other.

    Parameters
    ----------
    layout : the columns
    rows : how many rows the pieces hold together
    pieces : pyarrow tables or record batches with the layout's columns; taken one at a time and let go
    what : the chunk in words, for messages

    Returns
    -------
    x (rows, d) in C order; nulls are NaN. The weight (rows,) where the layout has a weight column.

    Raises
    ------
    SourceChangedError : the pieces hold more or fewer rows
    DataError : a value that is none of its column's categories
    """
    x = np.empty((rows, layout.n_features), layout.dtype)
    weight = None if layout.weight is None else np.empty((rows, 1), np.float64)
    start = 0
    for piece in pieces:
        stop = start + piece.num_rows
        if stop <= rows:
            _fill_features(layout, piece, x[start:stop], what)
        if stop <= rows and weight is not None and layout.weight is not None:
            write_column(piece.column(layout.weight.name), weight[start:stop])
        start = stop
    if start != rows:
        raise SourceChangedError(f"{what}: {start} rows were read where {rows} were planned; open the data again")
    return Chunk(x, None if weight is None else weight[:, 0])


def numbers_of(array: Any, what: str) -> NDArray[np.float64]:
    """An Arrow or NumPy array of n numbers as (n,) float64; nulls are NaN.

    Raises
    ------
    SchemaError : they are no numbers
    """
    out = np.empty((len(array), 1))
    try:
        column = array if isinstance(array, pa.Array) else pa.array(array)
        if not is_number(column.type):
            raise TypeError(column.type)
        write_column(column, out)
    except (pa.ArrowException, TypeError, ValueError) as error:
        kind = getattr(array, "type", getattr(array, "dtype", type(array).__name__))
        raise SchemaError(f"{what} holds {kind}, which is not numeric") from error
    return out[:, 0]


def _fill_features(layout: TableLayout, piece: Any, out: NDArray[Any], what: str) -> None:
    start, at_once = 0, max(1, TOGETHER // layout.n_features)
    table = piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
    for batch in table.to_batches(at_once):
        _fill(layout, batch, out[start : start + batch.num_rows], what)
        start += batch.num_rows


def _fill(layout: TableLayout, batch: pa.RecordBatch, out: NDArray[Any], what: str) -> None:
    first = 0
    for single, columns in groupby(layout.columns, key=lambda column: column.size is None and column.values is None):
        members = list(columns)
        if single and len(members) * len(out) >= MANY:
            _fill_together([batch.column(column.name) for column in members], out, first)
        else:
            _fill_each(members, batch, out, first, what)
        first += sum(column.width for column in members)


def _fill_together(arrays: list[pa.Array], out: NDArray[Any], first: int) -> None:
    loops.interleave([np.ascontiguousarray(_numbers(plain(array)), out.dtype) for array in arrays], out, first)


def _fill_each(columns: list[Column], batch: pa.RecordBatch, out: NDArray[Any], first: int, what: str) -> None:
    for column in columns:
        if column.values is not None:
            told, skips = f"{what}: column {column.name!r}", column.unseen == "missing"
            write_codes(batch.column(column.name), column.values, out[:, first], told, skips)
        else:
            write_column(batch.column(column.name), out[:, first : first + column.width])
        first += column.width


def write_column(column: Any, out: NDArray[Any]) -> None:
    """Write an Arrow array or chunked array of n rows into out (n, width), piece by piece; nulls become NaN."""
    start = 0
    for array in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        _write(array, out[start : start + len(array)])
        start += len(array)


def _write(array: pa.Array, out: NDArray[Any]) -> None:
    array = plain(array)
    if pa.types.is_fixed_size_list(array.type):
        _write_lists(array, out)
    else:
        out[:, 0] = _numbers(array)


def _write_lists(array: pa.Array, out: NDArray[Any]) -> None:
    # flatten() leaves null rows out, .values ignores the offset of a slice: each is right in one case only.
    if array.null_count == 0:
        out[...] = _numbers(plain(array.flatten())).reshape(out.shape)
        return
    size = array.type.list_size
    values = array.values.slice(array.offset * size, len(array) * size)
    out[...] = _numbers(plain(values)).reshape(out.shape)
    out[array.is_null().to_numpy(zero_copy_only=False)] = np.nan


def _numbers(array: pa.Array) -> NDArray[Any]:
    """The values; where there are nulls NumPy needs a float, which to_numpy() makes of integers by itself."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    elif pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers
