"""Text as numbers: one vocabulary for the whole data, fixed while planning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamem.core.errors import SchemaError
from streamem.sources.columns import is_text
from streamem.sources.options import ReadOptions
from streamem.sources.plain_arrow import plain
from streamem.sources.stored_index import default_columns

MOST_VALUES = 2**16
"""A column with more different texts than this names its rows rather than a category of them."""


def with_vocabularies(
    options: ReadOptions, schema: pa.Schema, read: Callable[[str], Iterable[Any]], origin: str
) -> ReadOptions:
    """Options in which ``categories="text"`` has become the vocabulary of every text column that is a feature.

    Parameters
    ----------
    schema : the columns of the table
    read : starts reading a column: Arrow arrays that follow each other
    origin : the table in words, for messages

    Raises
    ------
    SchemaError : a column has more than `MOST_VALUES` different values
    """
    if options.categories != "text":
        return options
    aside = {options.weight_column, *options.left_out}
    wanted = options.columns or default_columns(schema, aside)
    times = Counter(schema.names)
    texts = [name for name in wanted if times[name] == 1 and is_text(schema.field(name).type)]
    return replace(options, categories={name: _vocabulary(read(name), name, origin) for name in texts})


def _vocabulary(pieces: Iterable[Any], name: str, origin: str) -> tuple[str, ...]:
    """The different values in sorted order (by code point); nulls are none."""
    found: set[Any] = set()
    for piece in pieces:
        found.update(pc.unique(plain(piece)).to_pylist())
        if len(found) > MOST_VALUES:
            raise SchemaError(
                f"{origin}: text column {name!r} has more than {MOST_VALUES} different values, too many for "
                "categories; leave it out with columns=, or give its values with ReadOptions(categories={...})"
            )
    return tuple(sorted(found - {None}))
