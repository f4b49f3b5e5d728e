"""Columns that are no features of a step, but drive the transition from it to the next one."""

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


def driving_columns(covariates: Iterable[int], schema: Schema) -> tuple[int, ...]:
    """The columns, by position.

    Raises
    ------
    SchemaError : no such columns, one named twice, one of categories, or no column left to be emitted
    """
    found = tuple(operator.index(column) for column in covariates)
    d = schema.n_features
    if any(not 0 <= column < d for column in found) or len(set(found)) < len(found):
        raise SchemaError(
            f"{schema.origin} has {d} columns, and covariates of transitions were asked for in columns {list(found)}; "
            f"different numbers from 0 to {d - 1} are needed"
        )
    if found and len(found) == d:
        raise SchemaError(
            f"{schema.origin} has {d} columns, which are all covariates of transitions; states need a column to emit"
        )
    names, categories = schema.names or (), schema.categories or {}
    if text := [names[column] for column in found if names and names[column] in categories]:
        raise SchemaError(
            f"{schema.origin}: covariates of transitions are numbers, and {text} hold categories; make a column of 0 "
            "and 1 of each category but one"
        )
    return found


def columns_named(covariates: Sequence[str | int], schema: Schema) -> tuple[int, ...]:
    """Positions of columns that are told by name or by position.

    Raises
    ------
    SchemaError : names that the data has not
    """
    names = list(schema.names or ())
    if lost := [one for one in covariates if isinstance(one, str) and one not in names]:
        has = f"it has {names}" if names else "it has no names: pass positions from 0 on"
        raise SchemaError(f"{schema.origin}: there is no column {lost[0]!r} to drive the transitions; {has}")
    return driving_columns((names.index(one) if isinstance(one, str) else one for one in covariates), schema)


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
        f"{place}: {len(bad)} values of column {column}{name}, a covariate of transitions, are not finite (the first, "
        f"{kind}, in row {row(int(bad[0]))}). Every step needs its covariates, also where nothing else was observed: "
        "impute them, or leave the column out"
    )
