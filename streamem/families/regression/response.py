"""What all regressions share: which column is the response, what rows may hold, and what a survey looks for."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ImpossibleValueError, ParameterError, SchemaError
from streamem.core.ports import FullFamily
from streamem.families.regression.design import Design, joined, require_full_rank

Array = NDArray[Any]


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

    _column: int | None = None
    """Of a response with a name, once the data are known."""
    _names: tuple[str, ...] | None = None
    """Of the columns, where the data have some."""
    _design: Design | None = None
    """Of all rows, once they were seen."""

    # --- what a distribution says ------------------------------------------------------------------------------------

    @abstractmethod
    def can_be(self, response: Array) -> Array:
        """Which responses (n,) the distribution can emit, (n,) bool; NaN counts as one."""

    @abstractmethod
    def expected(self, params: Params, covariates: Array) -> Array:
        """Expected response (n, K) under every component, given covariates (n, p)."""

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
        if isinstance(self.response, str):
            if other._names is None:
                raise SchemaError(
                    f"response is {self.response!r}, and the columns have no names; pass its index, such as -1"
                )
            if self.response not in other._names:
                raise SchemaError(f"response is {self.response!r}, and the columns are {list(other._names)[:20]}")
            other._column = other._names.index(self.response)
        return other

    def column(self, width: int) -> int:
        """Where the response lies in rows of so many columns.

        Raises
        ------
        SchemaError : nowhere, or beside no covariate
        """
        if width < 2:
            raise SchemaError(f"rows have {width} column(s); a response and at least one covariate are needed")
        if isinstance(self.response, str) and self._column is None:
            raise SchemaError(
                f"response is {self.response!r}, and these rows have no names; pass its index, such as -1"
            )
        index = self._column if isinstance(self.response, str) else self.response
        assert index is not None
        if not -width <= index < width:
            raise SchemaError(f"response is column {index} of rows that have {width} columns")
        return index % width

    def parts(self, x: Array) -> tuple[Array, Array]:
        """Covariates (n, p) and responses (n,) of rows (n, p + 1), in float64.

        Raises
        ------
        ImpossibleValueError : a response that the distribution cannot emit
        """
        at = self.column(x.shape[1])
        response = x[:, at].astype(np.float64)
        if not (fine := self.can_be(response)).all():
            raise ImpossibleValueError(float(response[int(np.argmin(fine))]), at, self.needed)
        return np.delete(x, at, axis=1).astype(np.float64, copy=False), response

    def covariate_names(self, width: int) -> list[str]:
        """How messages call the covariates of rows of so many columns."""
        at = self.column(width)
        known = self._names if self._names is not None and len(self._names) >= width - 1 else None
        if known is None:
            return [str(i) for i in range(width) if i != at]
        return [f"{i} {known[i]!r}" for i in range(width) if i != at]

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
        require_full_rank(other._design, self.covariate_names(len(other._design.mean) + 1))
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
    if isinstance(response, str):
        return response
    if isinstance(response, bool) or not isinstance(response, int | np.integer):
        raise ParameterError(f"response is {response!r}; it must be the name of a column, or its index, such as -1")
    return int(response)


def whole_rows(covariates: Array, response: Array) -> Array:
    """Which rows (n,) hold a response and all covariates."""
    return np.asarray(~(np.isnan(response) | np.isnan(covariates).any(axis=1)))
