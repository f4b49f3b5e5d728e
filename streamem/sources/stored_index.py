"""The index of a pandas or Dask DataFrame, as it lies among the columns of what the frame was written to."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

RESERVED = re.compile(r"__(index_level_\d+|null_dask_index)__")


def is_reserved(name: Any) -> bool:
    """Whether pandas or Dask gave a column this name because its index had none."""
    return isinstance(name, str) and RESERVED.fullmatch(name) is not None


def stored_index(schema: Any) -> set[str]:
    """The columns of a table, by its pyarrow.Schema, that hold the index of the frame that was written.

    The schema's pandas metadata names them (``index_columns`` of the specification "Storing pandas DataFrame objects in
    Apache Arrow/Parquet"; a RangeIndex is stored there and is no column). Writers that drop the metadata leave the
    reserved names.
    """
    return {name for name in schema.names if is_reserved(name)} | {n for n in _declared(schema) if n in schema.names}


def index_columns(schema: Any) -> list[str]:
    """The columns of `stored_index`, in the order of the table."""
    found = stored_index(schema)
    return [name for name in schema.names if name in found]


def default_columns(schema: Any, aside: Collection[str | None]) -> list[str]:
    """The columns that are features unless the user names others: all but those put aside and the stored index."""
    left_out = stored_index(schema).union(name for name in aside if name is not None)
    return [name for name in schema.names if name not in left_out]


def _declared(schema: Any) -> list[str]:
    try:
        declared = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        return [name for name in declared if isinstance(name, str)]
    except (KeyError, TypeError, ValueError, RecursionError):  # no metadata, or such as pandas does not write
        return []
