"""Which columns of a row each factor of a product has: by name or index, and under which key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from streamem.core.arrays import RESERVED
from streamem.core.errors import ParameterError, SchemaError

Asked = tuple[str | int, ...]
"""Columns of one factor, as the user named them."""

MOST_SHOWN = 20
TAKEN = RESERVED | {"self", "empty"}


def asked_columns(named: Any) -> Asked:
    """The columns that a key of ``Product({key: family})`` names.

    Raises
    ------
    ParameterError : something else than names, indices, and tuples of either
    """
    columns = tuple(named) if isinstance(named, tuple | list) else (named,)
    for column in columns:
        is_index = isinstance(column, int | np.integer) and not isinstance(column, bool) and column >= 0
        if not (isinstance(column, str) or is_index):
            raise ParameterError(
                f"a product names columns {named!r}; a name, an index >= 0, or a tuple of either is needed"
            )
    if not columns:
        raise ParameterError("a product has a factor without columns; name at least one for each")
    return tuple(column if isinstance(column, str) else int(column) for column in columns)


def keys_of(asked: Sequence[Asked]) -> tuple[str, ...]:
    """An identifier for each factor, from its columns: its parameters and statistics are found under that name.

    >>> keys_of([("rt",), ("lat", "lon"), (2,), ("income (USD)",)])
    ('rt', 'lat_lon', 'x2', 'income__USD_')
    """
    keys: list[str] = []
    for columns in asked:
        plain = "_".join(re.sub(r"\W", "_", c) if isinstance(c, str) else f"x{c}" for c in columns)
        plain = f"{plain}_" if plain in TAKEN else plain if plain.isidentifier() else f"x{plain}"
        tries = (plain if i == 1 else f"{plain}_{i}" for i in count(1))
        keys.append(next(key for key in tries if key not in keys))
    return tuple(keys)


def positions(asked: Sequence[Asked], n_features: int, names: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Where the columns of each factor are in a row of d features.

    Raises
    ------
    SchemaError : columns that are not there, that no factor names, or names where the data has none
    ParameterError : a column that two factors name
    """
    found = tuple(tuple(_position(column, n_features, names) for column in columns) for columns in asked)
    flat = [column for columns in found for column in columns]
    if twice := sorted({column for column in flat if flat.count(column) > 1}):
        raise ParameterError(f"a product names {label_of(twice, names)} twice; every column belongs to one factor")
    if rest := sorted(set(range(n_features)) - set(flat)):
        named = [names[column] for column in sorted(flat)] if names is not None else None
        remedy = "" if named is None else f", or leave them out with columns={named}"
        raise SchemaError(
            f"a product has no family for {label_of(rest, names)} of the data: name a family for each{remedy}"
        )
    return found


def label_of(columns: Sequence[int], names: Sequence[str] | None) -> str:
    """Columns in words, for messages."""
    return ("column " if len(columns) == 1 else "columns ") + _listed(columns, names)


def require_numbers(columns: Sequence[int], names: Sequence[str] | None, texts: Mapping[str, Any], family: str) -> None:
    """Refuse text for a family that takes no codes of categories.

    Raises
    ------
    SchemaError : naming the column and the family
    """
    for column in columns:
        if names is not None and names[column] in texts:
            raise SchemaError(
                f"column {names[column]!r} holds text; {family} takes numbers: name Categorical() for the column, or "
                "leave it out with columns="
            )


def _position(column: str | int, n_features: int, names: Sequence[str] | None) -> int:
    if isinstance(column, int):
        if column >= n_features:
            raise SchemaError(f"a product names column {column}, and the data has columns 0 … {n_features - 1}")
        return column
    if names is None:
        raise SchemaError(
            f"a product names column {column!r}, and the data has no column names: name columns by index, 0 … "
            f"{n_features - 1}, or pass a table"
        )
    if column not in names:
        close = difflib.get_close_matches(column, list(names)[:10_000], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SchemaError(
            f"a product names column {column!r}, which the data does not have; it has "
            f"{_listed(range(n_features), names)}{hint}"
        )
    return list(names).index(column)


def _listed(columns: Sequence[int], names: Sequence[str] | None) -> str:
    told = [str(column) if names is None else repr(names[column]) for column in columns]
    more = f" and {len(told) - MOST_SHOWN} more" if len(told) > MOST_SHOWN else ""
    return ", ".join(told[:MOST_SHOWN]) + more
