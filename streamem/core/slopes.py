"""Derivatives of log-densities in closed form, where a family knows them: for errors of its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


class Slopes(ABC):
    """How the log-densities of complete rows change with each number in the arrays of `FreeForm.values`.

    Arrays are of one component. In shapes, q is how many numbers of an array move: all, each alone, in their order; of
    a matrix in `FreeForm.symmetric` the pairs of equal ones together, d·(d + 1)/2, ordered by ``np.tril_indices``.
    """

    @abstractmethod
    def first(self, component: int, x: Array) -> Mapping[str, Array]:
        """First derivatives (n, q) by name, at rows x (n, d)."""

    @abstractmethod
    def second(self, component: int, x: Array, weight: Array) -> Mapping[tuple[str, str], Array]:
        """Second derivatives (q, q') by two names, summed over rows x (n, d) with weights (n,); one of two orders."""
