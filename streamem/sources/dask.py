"""Rows of lazy Dask collections: computed block by block, with all their transformations, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source
from streamem.sources.dask_array import open_array
from streamem.sources.dask_frame import frame_values, open_frame
from streamem.sources.frames import index_names
from streamem.sources.options import ReadOptions


def open(data: Any, options: ReadOptions) -> Source:
    """A Dask array or DataFrame.

    The unit is the block (partition); each carries its own tasks only, and `load` runs them in the calling thread,
    again in every pass: persist or store what is expensive. Partitions, and array chunks of unknown size, are computed
    once at opening to learn their lengths.

    Raises
    ------
    ParameterError : another kind of collection
    SchemaError : axes or columns that cannot be features
    SourceError : a block that fails, or is not what its collection declares
    """
    if isinstance(data, dask.array.Array):
        return open_array(data, options)
    # Told by what it offers: dask.dataframe takes long to import, only to ask for its type. A Series has to_frame.
    if dask.is_dask_collection(data) and hasattr(data, "partitions") and not hasattr(data, "to_frame"):
        return open_frame(data, options)
    raise ParameterError(
        f"cannot read rows from a Dask {type(data).__name__}; pass an array or a DataFrame (a Series: its to_frame())"
    )


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[Any]:
    """The values of any one column of a DataFrame, in the order of the rows.

    Raises
    ------
    SchemaError : there is no such column
    """
    if isinstance(data, dask.array.Array):
        raise SchemaError(f"the Dask array has no column names, so {name!r} cannot be chosen")
    return frame_values(data, name)


def index_columns(data: Any, options: ReadOptions) -> list[str]:
    """The index of a DataFrame where it has a name: one without may count the rows of each partition."""
    index = None if isinstance(data, dask.array.Array) else data._meta.index
    return [] if index is None or None in index.names else index_names(index)
