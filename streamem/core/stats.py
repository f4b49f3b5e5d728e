"""Expected sufficient statistics as a value in a vector space."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, sub
from typing import Any, Self

import numpy as np

from streamem.core.arrays import Arrays


class Stats(Arrays):
    """Sums over rows: can be added, subtracted and scaled; always float64.

    From these three operations follow the parallel sum over chunks, online EM (a moving average), incremental EM
    (subtract the old, add the new) and federated fits (add what the sites send).

    >>> (Stats(weight=[1.0], x=[[2.0]]) + Stats(weight=[2.0], x=[[5.0]])).x
    array([[7.]])
    """

    __slots__ = ()
    _dtype = np.float64

    def _combine(self, other: Stats, operation: Callable[[Any, Any], Any]) -> Self:
        if self._items.keys() != other._items.keys():
            raise ValueError(
                f"statistics of different models cannot be combined: {sorted(self)} against {sorted(other)}"
            )
        theirs = other._items
        return self._of_frozen({name: _fresh(operation(value, theirs[name])) for name, value in self._items.items()})

    def __add__(self, other: Stats) -> Self:
        if not isinstance(other, Stats):
            return NotImplemented
        return self._combine(other, add)

    def __radd__(self, other: object) -> Self:
        """Lets ``sum([...])`` start from its 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: Stats) -> Self:
        if not isinstance(other, Stats):
            return NotImplemented
        return self._combine(other, sub)

    def __mul__(self, factor: float) -> Self:
        return self._of_frozen({name: _fresh(value * factor) for name, value in self._items.items()})

    __rmul__ = __mul__


SUMS_OF_WEIGHTS = ("rows", "weight", "responsibilities", "visits", "startprob", "transitions", "counts", "seen")
"""Members that weights add up to, which may be below 0 by rounding only (incremental EM subtracts)."""

LOGARITHMS = ("filtered", "watch", "fallback")
"""Members that may hold -inf, or nothing yet; and parameters."""


def stats_faults(stats: Stats) -> list[str]:
    """What contradicts itself in statistics that were read from a file: one sentence for each array, naming it."""
    found = []
    for path, value in stats.flatten().items():
        names = path.split(".")
        if set(names) & set(LOGARITHMS):
            continue
        if not np.isfinite(value).all():
            found.append(f"{path} holds values that are not finite")
        elif names[-1] in SUMS_OF_WEIGHTS and value.size and value.min() < -1e-9 * np.abs(value).max():
            found.append(f"{path} holds {value.min():.6g}, where numbers >= 0 are needed")
    return found


def _fresh(value: Any) -> Any:
    """The result of arithmetic that nobody else holds, read-only."""
    if type(value) is np.ndarray and value.dtype == np.float64:
        return _read_only(value)
    if type(value) is not np.float64 and isinstance(value, Stats):
        return value
    return _read_only(np.array(value, dtype=np.float64))  # of no dimension, arithmetic gives scalars


def _read_only(array: Any) -> Any:
    array.setflags(write=False)
    return array
