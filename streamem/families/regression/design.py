"""What all rows tell of the covariates of a regression: how far they reach, and whether they determine coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DegenerateDataError

Array = NDArray[Any]

ALIKE = 1e-12
"""Share of a column's variance that the columns before it leave unexplained, below which nothing tells it from them."""
NAMED = 1e-6
"""A column belongs to a combination if its coefficient moves that by more than this share."""


@dataclass(frozen=True, eq=False)
class Design:
    """Covariates of some rows.

    Attributes
    ----------
    rows : how many
    mean, low, high : (p,) of each covariate
    scatter : (p, p) sums of products of deviations from the means
    top, bottom : largest and smallest response
    """

    rows: float
    mean: Array
    low: Array
    high: Array
    scatter: Array
    top: float
    bottom: float

    @classmethod
    def of(cls, covariates: Array, response: Array) -> Design:
        """The design of rows (n, p) with responses (n,)."""
        p = covariates.shape[1]
        if not len(covariates):
            nothing = np.zeros(p)
            return cls(0.0, nothing, np.full(p, np.inf), np.full(p, -np.inf), np.zeros((p, p)), -np.inf, np.inf)
        mean = covariates.mean(axis=0)
        deviations = covariates - mean
        low, high = covariates.min(axis=0), covariates.max(axis=0)
        ends = float(response.max()), float(response.min())
        return cls(float(len(covariates)), mean, low, high, deviations.T @ deviations, *ends)

    def joined(self, other: Design) -> Design:
        """The design of the rows of two (Chan, Golub & LeVeque 1979)."""
        if not other.rows or not self.rows:
            return self if self.rows else other
        rows = self.rows + other.rows
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.rows * other.rows / rows)
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        mean, top, bottom = (
            self.mean + apart * (other.rows / rows),
            max(self.top, other.top),
            min(self.bottom, other.bottom),
        )
        return Design(rows, mean, low, high, scatter, top, bottom)

    def packed(self) -> Array:
        """All numbers in one array."""
        told = [self.rows], [self.top], [self.bottom], self.mean, self.low, self.high, self.scatter.ravel()
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in told])

    @classmethod
    def unpacked(cls, numbers: Array) -> Design:
        """The inverse of `packed`."""
        p = round((np.sqrt(4 * len(numbers) - 3) - 3) / 2)  # of 3 + 3 p + p² numbers
        mean, low, high = numbers[3 : 3 + 3 * p].reshape(3, p)
        rows, top, bottom = (float(number) for number in numbers[:3])
        return cls(rows, mean, low, high, numbers[3 + 3 * p :].reshape(p, p), top, bottom)


def joined(found: Sequence[Array]) -> Design:
    """The design of all rows, from those of chunks, packed."""
    first, *rest = (Design.unpacked(one) for one in found)
    for other in rest:
        first = first.joined(other)
    return first


def require_full_rank(design: Design, names: Sequence[str]) -> None:
    """Refuse covariates that do not determine their coefficients beside an intercept.

    Parameters
    ----------
    names : (p,) how messages call the covariates

    Raises
    ------
    DegenerateDataError : fewer rows than coefficients, a constant column, or one that is a combination of others
    """
    p = len(design.mean)
    if not design.rows:
        raise DegenerateDataError(
            "no row has all values and a weight other than zero, so that nothing can be estimated; pass rows that have"
        )
    if design.rows < p + 1:
        raise DegenerateDataError(
            f"{design.rows:.0f} rows with all values were found for {p + 1} coefficients (an intercept, and one for "
            f"each of {p} covariates); at least as many rows as coefficients are needed: leave covariates out, or pass "
            "more rows"
        )
    for j in range(p):
        if design.low[j] == design.high[j]:
            raise DegenerateDataError(
                f"covariate {names[j]} is {design.low[j]:.6g} in all rows, which the intercept says already, so "
                "that the design is singular; leave the column out"
            )
    if (found := first_combination(design)) is not None:
        column, others = found
        raise DegenerateDataError(
            f"covariate {names[column]} is a linear combination of {', '.join(names[i] for i in others)} and the "
            "intercept, so that the design is singular and no data tell their coefficients; leave one of these columns "
            "out (of dummy variables, those of one category)"
        )


def first_combination(design: Design) -> tuple[int, list[int]] | None:
    """The first column that those before it explain, and which of them do; None where there is none."""
    deviation = np.sqrt(np.diagonal(design.scatter))
    correlation = design.scatter / np.outer(deviation, deviation)
    left = correlation.copy()  # what remains of each column, as Cholesky's method takes the others out one by one
    for j in range(len(left)):
        if left[j, j] <= ALIKE:
            coefficients = np.linalg.solve(correlation[:j, :j], correlation[:j, j])
            return j, [i for i in range(j) if abs(coefficients[i]) > NAMED]
        own = left[j + 1 :, j] / left[j, j]
        left[j + 1 :, j + 1 :] -= np.outer(own, left[j, j + 1 :])
    return None
