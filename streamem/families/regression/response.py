"""What all regressions share: which column is the response, what rows may hold, and what a survey looks for."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ImpossibleValueError, ParameterError, SchemaError
from streamem.core.ports import FullFamily
from streamem.families.regression.design import Design, joined, require_full_rank

Array = NDArray[Any]


NOTHING: Mapping[str, int | str] = MappingProxyType({})

BLOCK = 2**14
"""Rows that a survey looks at together."""


class ResponseColumn(FullFamily):
    """One column of a row, the response, given the others, the covariates.

    An instance from `integrating` takes NaN. A response that was not observed drops out of its row, which is exact. A
    row with a covariate that was not observed says nothing: covariates have no distribution here, so that only complete
    rows count, as with R's ``na.omit``.
    """

    response: int | str
    integrates = False
    """Whether NaN is a value that was not observed; `integrating` sets it."""
    needed: str
    """What a response can be, and what to do, for messages."""

    _found: Mapping[str, int] = MappingProxyType({})
    """Where columns with a name are, once the data are known."""
    _names: tuple[str, ...] | None = None
    """Of the columns, where the data have some."""
    _design: Design | None = None
    """Of all rows, once they were seen."""

    # --- what a distribution says ------------------------------------------------------------------------------------

    @abstractmethod
    def can_be(self, response: Array) -> Array:
        """Which responses (n,) the distribution can emit, (n,) bool; NaN counts as one."""

    @abstractmethod
    def expected(self, params: Params, x: Array) -> Array:
        """Expected response (n, K) under every component, whatever rows (n, d) hold in its place."""

    @abstractmethod
    def drawn(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Responses (n,) drawn given covariates of rows (n, d), each from its component (n,); NaN if one is missing."""

    def beside(self) -> Mapping[str, int | str]:
        """Columns that are neither response nor covariates: index or name, by what they say of a row."""
        return NOTHING

    def possible(self, response: Array, beside: Mapping[str, Array]) -> Array:
        """`can_be`, where other columns (n,) tell of a response too."""
        return self.can_be(response)

    def counted(self, n_features: int) -> Array:
        """Refuse: densities are those of a response, given its covariates.

        Raises
        ------
        ParameterError : always
        """
        name = type(self).__name__
        raise ParameterError(
            f"{name} has no noise beside it: its densities are those of a response, given covariates, and noise has "
            "one over both. Fit without noise, or with one component more"
        )

    def scale(self, params: Params) -> Array | None:
        """Standard deviations of the response (K,), in its units; None where its mean tells them."""
        return None

    # --- columns -----------------------------------------------------------------------------------------------------

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Self:
        """This family, which knows where in a row the response of that name is.

        Raises
        ------
        SchemaError : no column has the name
        """
        other = copy.copy(self)
        other._names = None if names is None else tuple(str(name) for name in names)
        found = {}
        for role, column in self._told().items():
            if not isinstance(column, str):
                continue
            if other._names is None:
                raise SchemaError(f"{role} is {column!r}, and the columns have no names; pass its index, such as -1")
            if column not in other._names:
                raise SchemaError(f"{role} is {column!r}, and the columns are {list(other._names)[:20]}")
            found[role] = other._names.index(column)
        other._found = found
        return other

    def column(self, width: int) -> int:
        """Where the response lies in rows of so many columns.

        Raises
        ------
        SchemaError : nowhere, or beside no covariate
        """
        return self._places(width)["response"]

    def apart(self, width: int) -> list[int]:
        """Where everything lies that is no covariate."""
        return list(self._places(width).values())

    def _told(self) -> dict[str, int | str]:
        return {"response": self.response, **self.beside()}

    def _places(self, width: int) -> dict[str, int]:
        told = self._told()
        if width < 1 + len(told):
            needed = " and ".join(["a response", *(f"a column of {name}" for name in self.beside())])
            raise SchemaError(f"rows have {width} column(s); {needed} and at least one covariate are needed")
        places = {role: self._place(role, column, width) for role, column in told.items()}
        if len(set(places.values())) < len(places):
            raise SchemaError(f"{' and '.join(places)} are columns {list(places.values())}; each needs one of its own")
        return places

    def _place(self, role: str, column: int | str, width: int) -> int:
        if isinstance(column, str) and role not in self._found:
            raise SchemaError(f"{role} is {column!r}, and these rows have no names; pass its index, such as -1")
        index = self._found[role] if isinstance(column, str) else column
        if not -width <= index < width:
            raise SchemaError(f"{role} is column {index} of rows that have {width} columns")
        return index % width

    def parts(self, x: Array) -> tuple[Array, Array]:
        """Covariates (n, p) and responses (n,) of rows (n, p + 1), in float64.

        Raises
        ------
        ImpossibleValueError : a response that the distribution cannot emit
        """
        places = self._places(x.shape[1])
        told = {role: x[:, at].astype(np.float64) for role, at in places.items()}
        response = told.pop("response")
        for values in told.values():  # a row of which one of them is missing says nothing of its response
            response = np.where(np.isnan(values), np.nan, response)
        if not (fine := self.possible(response, told)).all():
            raise ImpossibleValueError(float(response[int(np.argmin(fine))]), places["response"], self.needed)
        return self.covariates(x), response

    def covariates(self, x: Array) -> Array:
        """Covariates (n, p) of rows (n, d), in float64."""
        return np.delete(x, self.apart(x.shape[1]), axis=1).astype(np.float64, copy=False)

    def told(self, x: Array) -> dict[str, Array]:
        """What rows (n, d) say beside response and covariates: (n,) each."""
        places = self._places(x.shape[1])
        return {role: x[:, places[role]].astype(np.float64) for role in self.beside()}

    def covariate_names(self, width: int) -> list[str]:
        """How messages call the covariates of rows of so many columns."""
        apart = self.apart(width)
        known = self._names if self._names is not None and len(self._names) >= width - 1 else None
        own = [i for i in range(width) if i not in apart]
        return [str(i) if known is None else f"{i} {known[i]!r}" for i in own]

    # --- what was not observed ---------------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN: of an instance from `integrating`."""
        return self.integrates

    def integrating(self) -> Self:
        """This family for rows that may hold NaN."""
        other = copy.copy(self)
        other.integrates = True
        return other

    def complete(self) -> Self:
        """This family for rows that lack nothing."""
        other = copy.copy(self)
        other.integrates = False
        return other

    # --- before the first parameters ---------------------------------------------------------------------------------

    @property
    def is_surveyed(self) -> bool:
        """Whether all rows have been seen."""
        return self._design is not None

    def survey(self, x: Array, weight: Array | None) -> Array:
        """The covariates of complete rows that count, as `Design` packs them.

        Raises
        ------
        ImpossibleValueError : a response that the distribution cannot emit
        """
        found = [
            self._surveyed_block(x[block], None if weight is None else weight[block])
            for block in (slice(first, first + BLOCK) for first in range(0, max(len(x), 1), BLOCK))
        ]
        return joined(found).packed()

    def _surveyed_block(self, x: Array, weight: Array | None) -> Array:
        covariates, response = self.parts(x if weight is None else x[weight > 0])
        whole = whole_rows(covariates, response)
        return Design.of(covariates[whole], response[whole]).packed()

    def surveyed(self, found: Sequence[Array]) -> Self:
        """The family that knows how far covariates reach.

        Raises
        ------
        DegenerateDataError : covariates do not determine their coefficients
        """
        other = copy.copy(self)
        other._design = joined(found)
        require_full_rank(other._design, self.covariate_names(len(other._design.mean) + 1 + len(self.beside())))
        return other

    def reach(self, covariates: Array) -> Array:
        """(2, p) smallest and largest covariates: of all rows, where they were seen, else of these (n, p).

        Raises
        ------
        DegenerateDataError : a covariate was observed nowhere
        """
        if self._design is not None:
            return np.stack([self._design.low, self._design.high])
        whole = covariates[~np.isnan(covariates).any(axis=1)]
        if not len(whole):
            raise DegenerateDataError("no row has all covariates, so that nothing can be estimated; pass more rows")
        return np.stack([whole.min(axis=0), whole.max(axis=0)])


def require_response(response: Any) -> int | str:
    """An index or a name of the response.

    Raises
    ------
    ParameterError : something else
    """
    return require_column("response", response)


def require_column(role: str, column: Any) -> int | str:
    """An index or a name of a column.

    Raises
    ------
    ParameterError : something else
    """
    if isinstance(column, str):
        return column
    if isinstance(column, bool) or not isinstance(column, int | np.integer):
        raise ParameterError(f"{role} is {column!r}; it must be the name of a column, or its index, such as -1")
    return int(column)


def whole_rows(covariates: Array, response: Array) -> Array:
    """Which rows (n,) hold a response and all covariates."""
    return np.asarray(~(np.isnan(response) | np.isnan(covariates).any(axis=1)))
