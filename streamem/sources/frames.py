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


def index_names(index: Any) -> list[str]:
    """Names of the levels of an index, in pandas' words for those without a name; none if it counts rows from 0."""
    names = list(index.names)
    if names == [None] and type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1):
        return []
    unnamed = ["index"] if len(names) == 1 else [f"level_{i}" for i in range(len(names))]
    return [unnamed[i] if name is None else str(name) for i, name in enumerate(names)]


def frame_column(frame: Any, name: str, origin: str) -> pa.Array:
    """One column of any type, or a level of the index, as an Arrow array; what pandas takes for missing is null.

    Raises
    ------
    SchemaError : there is no such column, or it holds values of several types
    """
    labels, levels = [str(label) for label in frame.columns], index_names(frame.index)
    require_column(name, [*labels, *levels], origin)
    found = frame.iloc[:, labels.index(name)] if name in labels else frame.index.get_level_values(levels.index(name))
    try:
        values = pa.array(found, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(f"{origin}: column {name!r} holds values of several types: {error}") from error
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
