"""pandas DataFrames as Arrow tables. pandas itself is never imported here: whoever has a frame has imported it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from streamem.core.errors import SchemaError
from streamem.sources.columns import require_column
from streamem.sources.options import ReadOptions


def is_named(frame: Any) -> bool:
    """Whether every column label is text."""
    return all(isinstance(label, str) for label in frame.columns)


def frame_schema(frame: Any, options: ReadOptions, origin: str) -> pa.Schema:
    """The Arrow types of the columns, from their dtypes alone; labels that are not text are turned into it.

    Raises
    ------
    SchemaError : a column that is asked for holds Python objects, or a type that Arrow does not know
    """
    labels = [str(label) for label in frame.columns]
    asked = {*(options.columns or set(labels) - set(options.left_out)), options.weight_column}
    kinds = [_arrow_type(frame.iloc[:0, i]) for i in range(len(labels))]
    if options.categories is not None:
        missing = [i for i, kind in enumerate(kinds) if kind is None and labels[i] in asked]
        kinds = [_text_type(frame.iloc[:, i]) if i in missing else kind for i, kind in enumerate(kinds)]
    refused = [
        f"{label!r} ({dtype})"
        for label, dtype, kind in zip(labels, frame.dtypes, kinds, strict=True)
        if kind is None and label in asked
    ]
    if refused:
        raise SchemaError(
            f"{origin}: columns that hold no numbers: {', '.join(refused)}. Convert them, for example with "
            "astype('float64'), or choose other columns with columns="
        )
    return pa.schema([pa.field(label, kind or pa.null()) for label, kind in zip(labels, kinds, strict=True)])


def _arrow_type(empty: Any) -> pa.DataType | None:
    if str(empty.dtype) == "object":
        return None
    try:
        return pa.array(empty, from_pandas=False).type
    except (pa.ArrowException, TypeError, ValueError):
        return None


def _text_type(column: Any) -> pa.DataType | None:
    """Text, if that is all that Python objects are; found by looking at each."""
    try:
        kind = pa.array(column, from_pandas=True).type
    except (pa.ArrowException, TypeError, ValueError):
        return None
    return pa.string() if pa.types.is_string(kind) or pa.types.is_null(kind) else None


def frame_table(frame: Any, names: Sequence[str]) -> pa.Table:
    """The named columns as an Arrow table: without a copy where a column lies contiguous in memory; NaN stays NaN."""
    position = {str(label): i for i, label in enumerate(frame.columns)}
    columns = [frame.iloc[:, position[name]] for name in names]
    arrays = [pa.array(column, from_pandas=str(column.dtype) == "object") for column in columns]
    return pa.Table.from_arrays(arrays, names=list(names))


def frame_column(frame: Any, name: str, origin: str) -> pa.Array:
    """One column of any type as an Arrow array; what pandas takes for missing is null.

    Raises
    ------
    SchemaError : there is no such column, or it holds values of several types
    """
    labels = [str(label) for label in frame.columns]
    require_column(name, labels, origin)
    try:
        values = pa.array(frame.iloc[:, labels.index(name)], from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(f"{origin}: column {name!r} holds values of several types: {error}") from error
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
