"""Columns that are no features, but drive transitions or weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError, SchemaError
from streamem.core.ports import Schema

Array = NDArray[Any]

TRANSITIONS = "covariates of transitions or weights"
CONCOMITANTS = "concomitant variables"
LEFT = {TRANSITIONS: "states and components need a column to emit", CONCOMITANTS: "a response needs a covariate"}
SOUGHT = {TRANSITIONS: "to drive transitions or weights", CONCOMITANTS: "on which the weights could depend"}
NEEDED = {
    TRANSITIONS: "Every row needs its covariates, also where nothing else was observed: impute them, or leave the "
    "column out",
    CONCOMITANTS: 'Drop or impute such rows; NaN may stand there with missing="integrate", which leaves them out',
}


def driving_columns(
    covariates: Iterable[int], schema: Schema, what: str = TRANSITIONS, all_may: bool = False
) -> tuple[int, ...]:
    """The columns, by position; `what` they are, for messages. `all_may` be such, where they are features too.

    Raises
    ------
    SchemaError : no such columns, one named twice, one of categories, or no column left to be emitted
    """
    found = tuple(operator.index(column) for column in covariates)
    d = schema.n_features
    if any(not 0 <= column < d for column in found) or len(set(found)) < len(found):
        raise SchemaError(
            f"{schema.origin} has {d} columns, and {what} were asked for in columns {list(found)}; "
            f"different numbers from 0 to {d - 1} are needed"
        )
    if found and len(found) == d and not all_may:
        raise SchemaError(f"{schema.origin} has {d} columns, which are all {what}; {LEFT[what]}")
    names, categories = schema.names or (), schema.categories or {}
    if text := [names[column] for column in found if names and names[column] in categories]:
        raise SchemaError(
            f"{schema.origin}: {what} are numbers, and {text} hold categories; make a column of 0 and 1 of each "
            "category but one"
        )
    return found


def columns_named(
    covariates: Sequence[str | int], schema: Schema, what: str = TRANSITIONS, all_may: bool = False
) -> tuple[int, ...]:
    """Positions of columns that are told by name or by position; `all_may` as in `driving_columns`.

    Raises
    ------
    SchemaError : names that the data has not
    """
    names = list(schema.names or ())
    if lost := [one for one in covariates if isinstance(one, str) and one not in names]:
        has = (
            f"it has {names}; where columns are chosen, these need choosing too"
            if names
            else "it has no names: pass positions from 0 on"
        )
        raise SchemaError(f"{schema.origin}: there is no column {lost[0]!r} {SOUGHT[what]}; {has}")
    places = (names.index(one) if isinstance(one, str) else one for one in covariates)
    return driving_columns(places, schema, what, all_may)


def without_columns(schema: Schema, covariates: Sequence[int]) -> Schema:
    """The schema of what is left."""
    if not covariates:
        return schema
    names = schema.names
    kept = None if names is None else tuple(name for i, name in enumerate(names) if i not in covariates)
    return replace(schema, n_features=schema.n_features - len(covariates), names=kept)


def require_covariates(
    covariates: Array,
    padding: Array | None,
    columns: Sequence[int],
    names: Sequence[str] | None,
    place: str,
    row: Callable[[int], int],
    what: str = TRANSITIONS,
) -> None:
    """Refuse covariates (n, p) that are not finite, but in rows that may be padding (n,).

    Raises
    ------
    DataError : naming the column, how many and the first row
    """
    wrong = ~np.isfinite(covariates)
    if padding is not None:
        wrong &= ~padding[:, None]
    if not wrong.any():
        return
    which = int(np.argmax(wrong.any(axis=0)))
    bad = np.flatnonzero(wrong[:, which])
    column = columns[which]
    name = "" if names is None else f" {names[column]!r}"
    kind = "NaN" if np.isnan(covariates[bad[0], which]) else "infinite"
    raise DataError(
        f"{place}: {len(bad)} values of column {column}{name}, of the {what}, are not finite (the first, "
        f"{kind}, in row {row(int(bad[0]))}). {NEEDED[what]}"
    )
