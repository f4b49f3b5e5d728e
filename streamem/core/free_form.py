"""Parameters of a family as numbers that mean something to people, and what ties these numbers together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import SEPARATOR, Params

Array = NDArray[Any]

SUM_TOLERANCE = 1e-9
"""How far a row may be off a sum of 1, to be taken for probabilities."""


@dataclass(frozen=True, eq=False)
class FreeForm:
    """Numbers from which the parameters of K components can be rebuilt, and the ties between them.

    Attributes
    ----------
    values : (K, …) arrays of floats by name; without the axis of components where `shared`
    shared : names of arrays that all components have together
    simplex : by name, where sets of probabilities begin along the last axis, and its length; each set sums to 1
    symmetric : names of arrays whose last two axes are those of a symmetric matrix
    """

    values: Mapping[str, Array]
    shared: frozenset[str] = frozenset()
    simplex: Mapping[str, Array] = field(default_factory=dict)
    symmetric: frozenset[str] = frozenset()

    def below(self, name: str) -> FreeForm:
        """This form with `name` and a dot before all names."""
        begin = f"{name}{SEPARATOR}"
        return FreeForm(
            {f"{begin}{own}": value for own, value in self.values.items()},
            frozenset(f"{begin}{own}" for own in self.shared),
            {f"{begin}{own}": starts for own, starts in self.simplex.items()},
            frozenset(f"{begin}{own}" for own in self.symmetric),
        )

    def joined(self, other: FreeForm) -> FreeForm:
        """A form with the arrays of two, whose names differ."""
        return FreeForm(
            {**self.values, **other.values},
            self.shared | other.shared,
            {**self.simplex, **other.simplex},
            self.symmetric | other.symmetric,
        )

    def with_values(self, values: Mapping[str, Array]) -> FreeForm:
        """Other numbers with the same ties."""
        return replace(self, values=values)


def own_part(values: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Arrays below `name`, of all under dotted names, by what follows it."""
    begin = f"{name}{SEPARATOR}"
    return {path.removeprefix(begin): value for path, value in values.items() if path.startswith(begin)}


def floats_of(params: Params) -> dict[str, Array]:
    """Arrays of floats with a dimension, by dotted name: what remains are flags, counts and facts."""
    flat = {name: np.asarray(value) for name, value in params.flatten().items()}
    return {name: value for name, value in flat.items() if value.dtype.kind == "f" and value.ndim}


def plain_form(params: Params, n_components: int) -> FreeForm:
    """Every array of floats, untied; those whose first axis is not that of the components are shared."""
    values = floats_of(params)
    return FreeForm(values, frozenset(name for name, value in values.items() if len(value) != n_components))


def found_form(params: Params, n_components: int) -> FreeForm:
    """Every array of floats, with the ties that its numbers show.

    Rows that sum to 1 for every component are probabilities, and matrices that equal their transposes for every
    component are symmetric.
    """
    form = plain_form(params, n_components)
    simplex, symmetric = {}, set()
    for name, value in form.values.items():
        own = value.ndim if name in form.shared else value.ndim - 1
        if own >= 1 and _is_simplex(value):
            simplex[name] = np.array([0, value.shape[-1]])
        elif own >= 2 and _is_symmetric(value):
            symmetric.add(name)
    return FreeForm(form.values, form.shared, simplex, frozenset(symmetric))


def put_back(params: Params, values: Mapping[str, Array]) -> Params:
    """`params` with other numbers in the arrays of these dotted names."""
    return Params.unflatten({**params.flatten(), **values})


def _is_simplex(value: Array) -> bool:
    inside = value.shape[-1] > 1 and bool(((value >= 0) & (value <= 1)).all())
    return inside and bool((np.abs(value.sum(axis=-1) - 1.0) <= SUM_TOLERANCE).all())


def _is_symmetric(value: Array) -> bool:
    square = value.shape[-1] == value.shape[-2] > 1
    return square and bool((value == np.swapaxes(value, -1, -2)).all())
