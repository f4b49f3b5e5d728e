"""Distances between statistics, whatever their units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.extrapolation import TOTALS
from streamem.core.stats import Stats

Array = NDArray[Any]


class Distances:
    """Inner products of differences of statistics, each number in units of its sum of sizes over the components.

    Totals of all rows count nothing. Sums are those of NumPy, in one thread: the same bits on any number of cores.
    """

    def __init__(self, of: Stats) -> None:
        self._units = {name: _unit(value) for name, value in _counted(of).items()}

    def dot(self, one: Stats, other: Stats) -> float:
        """The inner product."""
        theirs = _counted(other)
        return sum(
            float(np.sum((value / unit) * (theirs[name] / unit)))
            for name, value, unit in ((name, value, self._units[name]) for name, value in _counted(one).items())
        )

    def norm(self, stats: Stats) -> float:
        """The Euclidean norm."""
        return float(np.sqrt(self.dot(stats, stats)))


def with_totals(stats: Stats, of: Stats) -> Stats:
    """Extrapolated statistics with the totals of the rows that they stand for."""
    return stats.replace(**{name: of[name] for name in TOTALS if name in of})


def _counted(stats: Stats) -> dict[str, Array]:
    """Arrays without totals; in an order that a file does not change, since sums round."""
    return {name: value for name, value in sorted(stats.flatten().items()) if name not in TOTALS}


def _unit(value: Array) -> Array:
    sizes = np.abs(value).sum(axis=0) if value.ndim else np.abs(value)
    return np.where(sizes > 0, sizes, 1.0)
