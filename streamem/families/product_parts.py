"""The factors of a product: which columns of a row each has, and what it sees of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.completing import as_written
from streamem.core.errors import ParameterError
from streamem.core.ports import FullFamily, full_family
from streamem.families.product_columns import Asked, label_of, positions, require_numbers
from streamem.kernels.nested.product_kernel import own_columns

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """One factor of a product.

    Attributes
    ----------
    key : its parameters and statistics are found under that name
    asked : its columns, as the user named them
    family : what it emits
    columns : where its columns are in a row; empty as long as names were not looked up in the data
    drops : rows without a value in these columns say nothing of the factor
    """

    key: str
    asked: Asked
    family: FullFamily
    columns: tuple[int, ...]
    drops: bool = False

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.asked)

    @property
    def name(self) -> str:
        """What the user calls its family."""
        return type(as_written(self.family)).__name__

    @property
    def told(self) -> str:
        """Column and family in words, for messages."""
        return f"{self.name} of {', '.join(repr(column) for column in self.asked)}"

    def observed(self, x: Array) -> tuple[Array, Array | slice]:
        """Columns of the factor, of those rows of x (n, d) that say something of it, and which rows these are."""
        own = own_columns(x, np.array(self.columns))
        if not self.drops or not (absent := np.isnan(own).all(axis=1)).any():
            return own, slice(None)
        present = np.flatnonzero(~absent)
        return own[present], present


def looked_up(
    parts: Sequence[Part], n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
) -> list[Part]:
    """Factors that know where their columns are, in data with these names and categories of text.

    Raises
    ------
    SchemaError, ParameterError : columns that are not there, that no factor names, or text that a factor cannot take
    """
    found, texts, known = positions([part.asked for part in parts], n_features, names), categories or {}, []
    for part, columns in zip(parts, found, strict=True):
        if not part.family.takes_codes:
            require_numbers(columns, names, texts, part.name)
        own = None if names is None else [names[column] for column in columns]
        family = full_family(part.family.for_columns(len(columns), own, texts))
        known.append(replace(part, columns=columns, family=family))
    return known


def located(parts: tuple[Part, ...], n_features: int) -> tuple[Part, ...]:
    """Factors with their columns; an index needs no data."""
    if all(part.columns for part in parts) and sum(part.width for part in parts) == n_features:
        return parts
    found = positions([part.asked for part in parts], n_features, None)
    return tuple(replace(part, columns=columns) for part, columns in zip(parts, found, strict=True))


def integrating_part(part: Part) -> Part:
    """The factor for rows that may lack values of its columns: dropped where there is one column.

    Raises
    ------
    ParameterError : a family of several columns that knows no missing values
    """
    if part.width == 1:
        return replace(part, drops=True)
    try:
        return replace(part, family=full_family(part.family.integrating()))
    except ParameterError as error:
        raise ParameterError(f"{label_of(range(part.width), [str(c) for c in part.asked])}: {error}") from error


def drawn_values(part: Part, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
    """A factor's own columns x, filled by draws: of one column from the distribution itself."""
    if part.width > 1:
        return part.family.drawn_for_missing(params, x, component, rng)
    out = np.empty((len(x), 1))
    for k in np.unique(component):
        chosen = component == k
        out[chosen] = part.family.draw(params, int(k), int(chosen.sum()), rng)
    return out
