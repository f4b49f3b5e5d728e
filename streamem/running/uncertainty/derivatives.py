"""Derivatives of log-densities by the free numbers of a family: in closed form, or by differences of fourth order.

With f at −2h, −h, h, 2h an error of order h⁴ is left (Abramowitz & Stegun 1964, §25.3.6 and §25.3.24; mixed ones by
Richardson's extrapolation of §25.3.27).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.running.uncertainty.along import first_along, second_along
from streamem.running.uncertainty.coordinates import Coordinates

Array = NDArray[Any]


class Derivatives:
    """First and second derivatives of the log-densities of some rows.

    Parameters
    ----------
    coordinates, pairs : as in `Prepared`
    x : (n, d) float64
    """

    def __init__(self, coordinates: Coordinates, pairs: Array, x: Array) -> None:
        self._coordinates, self._pairs, self._x = coordinates, pairs, x
        self.log_prob = self._at()
        self._closed = coordinates.family.slopes(coordinates.params)

    def first(self) -> Array:
        """D (K, n, Q): slopes of each component's log-density, 0 where a coordinate moves nothing."""
        c = self._coordinates
        if self._closed is not None:
            return first_along(c, self._closed, self._x)
        out = np.zeros((c.n_components, len(self._x), c.width))
        for j in range(c.width):
            h = np.where(c.steps[:, j] > 0, c.steps[:, j], np.inf)
            near, far = self._at((j, 1.0)) - self._at((j, -1.0)), self._at((j, 2.0)) - self._at((j, -2.0))
            out[:, :, j] = ((8.0 * near - far) / (12.0 * h)).T
        return out

    def second(self, weight: Array) -> Array:
        """B (K, Q, Q): second derivatives, summed over rows with weights (n, K)."""
        c, steps = self._coordinates, self._coordinates.steps
        if self._closed is not None:
            return second_along(c, self._closed, self._x, weight)
        out = np.zeros((c.n_components, c.width, c.width))
        near, far = ([self._sums(weight, (j, f), (j, -f)) for j in range(c.width)] for f in (1.0, 2.0))
        for j in range(c.width):
            out[:, j, j] = (16.0 * near[j] - far[j]) / 12.0 / _divisor(steps[:, j] ** 2)
        for i, j in self._pairs.tolist():
            mixed = [self._both(weight, i, j, f) - own[i] - own[j] for f, own in ((1.0, near), (2.0, far))]
            found = (4.0 * mixed[0] - mixed[1] / 4.0) / 6.0 / _divisor(steps[:, i] * steps[:, j])
            out[:, i, j] = out[:, j, i] = found
        return out

    def _both(self, weight: Array, i: int, j: int, factor: float) -> Array:
        up, down = ((i, factor), (j, factor)), ((i, -factor), (j, -factor))
        return self._changes(weight, *up) + self._changes(weight, *down)

    def _sums(self, weight: Array, *moves: tuple[int, float]) -> Array:
        """(K,) sums of the changes of the log-densities by each move alone."""
        return np.asarray(sum(self._changes(weight, move) for move in moves))

    def _changes(self, weight: Array, *moves: tuple[int, float]) -> Array:
        with np.errstate(invalid="ignore"):
            change = self._at(*moves) - self.log_prob
        return np.asarray(np.einsum("nk,nk->k", weight, np.where(weight > 0, change, 0.0)))

    def _at(self, *moves: tuple[int, float]) -> Array:
        """Log-densities (n, K) with coordinates moved."""
        c = self._coordinates
        with np.errstate(all="ignore"):
            params = c.moved(moves) if moves else c.params
            return np.asarray(c.family.log_prob(params, self._x), dtype=np.float64)


def _divisor(step: Array) -> Array:
    return np.where(step > 0, step, np.inf)
