"""Small data sets for the golden cases. `RandomState` draws the same numbers in every version of NumPy."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.random import RandomState

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Rows (n, d), what `fit` and the questions are told besides (lengths of sequences), and rows only asked about."""

    x: Array
    options: dict[str, Any] = field(default_factory=dict)
    far: Array | None = None


def data_set(name: str, dtype: str = "float64") -> DataSet:
    """The data set of this name, its rows in `dtype`."""
    made = _made(name)
    far = None if made.far is None else made.far.astype(dtype)
    return DataSet(made.x.astype(dtype), made.options, far)


@cache
def _made(name: str) -> DataSet:
    return MAKERS[name](RandomState(zlib.crc32(name.encode())))


def _clusters(rng: RandomState, rows: int, centers: Array) -> Array:
    return centers[rng.randint(len(centers), size=rows)] + rng.normal(size=(rows, centers.shape[1]))


def _overlapping(rng: RandomState) -> DataSet:
    """Three clusters that overlap, and rows far from all of them that no fit sees."""
    x = _clusters(rng, 1501, 1.5 * np.arange(3.0)[:, None] * np.ones(4)) * [1.0, 2.0, 0.1, 30.0]
    return DataSet(x, far=np.array([[1e3] * 4, [-1e12, 0, 0, 5], [0, 3e36, 0, 0]]))


def _nine(rng: RandomState) -> DataSet:
    """Nine clusters: from eight components on, long vectors take another path."""
    return DataSet(_clusters(rng, 1201, 2.5 * rng.normal(size=(9, 12))))


def _wide(rng: RandomState) -> DataSet:
    """Rows of 288 bytes in float32 and 576 in float64, which variances read as they lie."""
    return DataSet(_clusters(rng, 601, rng.normal(size=(5, 72))))


def _tight(rng: RandomState) -> DataSet:
    """Two clusters of a 30,000th of the third's spread: differences, not products, have to serve these."""
    x = _clusters(rng, 1202, np.zeros((1, 5)))
    x[:300] = 7 + 3e-5 * x[:300]
    x[300:500] = 3e-5 * x[300:500] - 5
    return DataSet(x[rng.permutation(len(x))])


def _many(rng: RandomState) -> DataSet:
    """24 clusters far apart: nearly all responsibilities are nil, and a screen finds the others."""
    return DataSet(_clusters(rng, 4001, 20 * rng.normal(size=(24, 10))))


def _counts(rng: RandomState) -> DataSet:
    return DataSet(rng.poisson(np.array([[1.0, 5, 0.3], [4, 5, 2], [9, 1, 0.1]])[rng.randint(3, size=1301)]))


def _answers(rng: RandomState) -> DataSet:
    chances = np.array([[0.9, 0.8, 0.2, 0.5, 0.1, 0.6], [0.2, 0.1, 0.7, 0.5, 0.3, 0.9]])
    return DataSet(rng.uniform(size=(1301, 6)) < chances[rng.randint(2, size=1301)])


def _codes(rng: RandomState) -> DataSet:
    kind = rng.randint(3, size=(1301, 1))
    return DataSet((rng.randint(2, size=(1301, 3)) + kind * [1, 0, 2]) % [4, 3, 5])


def _walk(rng: RandomState, stay: float, rows: int, states: int) -> Array:
    """States of a chain that stays where it is with probability `stay`."""
    steps = np.where(rng.uniform(size=rows) < stay, 0, rng.randint(1, states, size=rows))
    return np.cumsum(steps) % states


LENGTHS = {"lengths": [400, 1, 350, 2, 248]}


def _series(rng: RandomState) -> DataSet:
    """Five sequences; in those only asked about, one step lies so far from all states that densities underflow."""
    states = _walk(rng, 0.95, 1001, 3)
    x = np.array([[0.0, 1], [2, -1], [4, 2]])[states] + rng.normal(size=(1001, 2)) * [[0.7, 1.1]]
    return DataSet(x, LENGTHS, _with_outlier(x))


def _with_outlier(x: Array) -> Array:
    far = x.copy()
    far[600] = [900.0, -900.0]
    return far


def _outlier(rng: RandomState) -> DataSet:
    """The same, and the far step is learned from."""
    return DataSet(_with_outlier(_series(rng).x), LENGTHS)


def _gaps(rng: RandomState) -> DataSet:
    """The same with steps at which nothing was observed: single ones, a run, the first and last of a sequence."""
    x = _series(rng).x.copy()
    x[[0, 17, 399, 400, 500]] = np.nan
    x[700:740] = np.nan
    return DataSet(x, LENGTHS)


def _one_series(rng: RandomState) -> DataSet:
    """One sequence, of many chunks."""
    states = _walk(rng, 0.9, 901, 2)
    return DataSet(np.array([[0.0, 0.0], [2.5, 1.5]])[states] + rng.normal(size=(901, 2)))


def _counted_series(rng: RandomState) -> DataSet:
    states = _walk(rng, 0.9, 1001, 2)
    return DataSet(rng.poisson(np.array([[1.0, 6.0], [7.0, 2.0]])[states]), LENGTHS)


def _symbols(rng: RandomState) -> DataSet:
    states = _walk(rng, 0.9, 1001, 2)
    return DataSet(((rng.randint(3, size=1001) + 2 * states) % 5)[:, None], LENGTHS)


def _answered_series(rng: RandomState) -> DataSet:
    states = _walk(rng, 0.9, 1001, 2)
    return DataSet(
        rng.uniform(size=(1001, 4)) < np.array([[0.9, 0.2, 0.5, 0.7], [0.1, 0.6, 0.5, 0.4]])[states], LENGTHS
    )


def _regimes(rng: RandomState) -> DataSet:
    """Two regimes of an autoregression."""
    states, y = _walk(rng, 0.97, 1001, 2), np.zeros((1001, 2))
    noise = rng.normal(size=y.shape)
    for t in range(1, len(y)):
        y[t] = [0.5, -0.2] + (0.8 if states[t] else -0.4) * y[t - 1] + noise[t]
    return DataSet(y, {"lengths": [400, 351, 250]})


def _lagged(rng: RandomState) -> DataSet:
    """Rows [y_t, y_{t−1}] of the autoregression."""
    y = _regimes(rng).x
    return DataSet(np.hstack([y[1:], y[:-1]]))


MAKERS: dict[str, Callable[[RandomState], DataSet]] = {
    "overlapping": _overlapping,
    "nine": _nine,
    "wide": _wide,
    "tight": _tight,
    "many": _many,
    "counts": _counts,
    "answers": _answers,
    "codes": _codes,
    "series": _series,
    "outlier": _outlier,
    "gaps": _gaps,
    "one series": _one_series,
    "counted series": _counted_series,
    "symbols": _symbols,
    "answered series": _answered_series,
    "regimes": _regimes,
    "lagged": _lagged,
}
