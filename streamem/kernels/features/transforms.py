"""Which functions of a column features can be, by name, and the table of features that compiled code reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FUNCTIONS = {
    "observed": 0,
    "x": 1,
    "x^2": 2,
    "1/x": 3,
    "sqrt x": 4,
    "|x|": 5,
    "log x": 6,
    "(log x)^2": 7,
    "log(1-x)": 8,
    "cos x": 9,
    "sin x": 10,
}
"""Names of functions T of one value, with their codes in `transform_steps`; "observed" is 1, and 0 for NaN."""

POWER, LOOKED_UP = 11, 12
"""Codes of features with parameters of their own.

POWER, with a power a and a shift b, is three features: t = exp(a·l), t·l and t·l² of l = log x − b. LOOKED_UP reads a
row of a table by the count x.
"""

MOST_EXPONENT = 400.0
"""Powers stop at exp of this, so that sums of them are finite: such a row is impossible in all but name."""


class FeatureTable(NamedTuple):
    """F features of rows x (n, d), each a function of one column.

    Attributes
    ----------
    codes, columns : (F,) int64
    powers, shifts : (F,) of POWER; of LOOKED_UP, the size s of `rising`, and 0 for the values themselves or 1 for their
        derivatives
    places : (F,) int64 rows of `tables`
    tables : (·, entries) of LOOKED_UP
    holes : whether NaN is a value that was not observed, of which all features are 0
    """

    codes: Array
    columns: Array
    powers: Array
    shifts: Array
    places: Array
    tables: Array
    holes: bool


def features_of_columns(names: Sequence[str], d: int, holes: bool) -> FeatureTable:
    """For each of d columns one feature after the other: perhaps "observed", and those named."""
    every = (*(["observed"] if holes else []), *names)
    codes = np.array([FUNCTIONS[name] for name in every], dtype=np.int64)
    columns = np.repeat(np.arange(d, dtype=np.int64), len(codes))
    nothing = np.zeros(len(columns))
    return FeatureTable(np.tile(codes, d), columns, nothing, nothing, np.zeros_like(columns), np.zeros((1, 1)), holes)


def with_powers(table: FeatureTable, columns: Array, powers: Array, shifts: Array) -> FeatureTable:
    """The table with three more features (t, t·l, t·l²) for each power: (P,) arrays of column, power and shift."""
    count = len(columns)
    codes = np.tile(np.array([POWER, -1, -1], dtype=np.int64), count)
    return table._replace(
        codes=np.concatenate([table.codes, codes]),
        columns=np.concatenate([table.columns, np.repeat(columns.astype(np.int64), 3)]),
        powers=np.concatenate([table.powers, np.repeat(powers, 3)]),
        shifts=np.concatenate([table.shifts, np.repeat(shifts, 3)]),
        places=np.concatenate([table.places, np.zeros(3 * count, dtype=np.int64)]),
    )


def with_rising(table: FeatureTable, columns: Array, sizes: Array) -> FeatureTable:
    """The table with two more features for each size s of the (P,) columns and sizes.

    They are g = log Γ(x + s) − log Γ(s) − x log s = Σ_{i<x} log(1 + i/s), and s (ψ(x + s) − ψ(s)) = Σ_{i<x} s/(s + i).
    """
    count = len(columns)
    i = np.arange(ENTRIES - 1.0)
    tables = np.zeros((2 * count, ENTRIES))
    np.cumsum(np.log1p(i / sizes[:, None]), axis=1, out=tables[0::2, 1:])
    np.cumsum(sizes[:, None] / (sizes[:, None] + i), axis=1, out=tables[1::2, 1:])
    return table._replace(
        codes=np.concatenate([table.codes, np.full(2 * count, LOOKED_UP, dtype=np.int64)]),
        columns=np.concatenate([table.columns, np.repeat(columns.astype(np.int64), 2)]),
        powers=np.concatenate([table.powers, np.repeat(sizes, 2)]),
        shifts=np.concatenate([table.shifts, np.tile([0.0, 1.0], count)]),
        places=np.concatenate([table.places, np.arange(2 * count, dtype=np.int64)]),
        tables=tables,
    )


ENTRIES = 256
"""Counts below this are looked up; asymptotic series serve the rest, to all digits."""
