"""Closed-form derivatives by single numbers, along the coordinates of a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.slopes import Slopes
from streamem.running.uncertainty.coordinates import NOTHING, Coordinates

Array = NDArray[Any]


def first_along(c: Coordinates, slopes: Slopes, x: Array) -> Array:
    """(K, n, Q) first derivatives at rows x (n, d)."""
    out = np.zeros((c.n_components, len(x), c.width))
    for k, (up, other) in enumerate(zip(*c.sides(), strict=True)):
        with np.errstate(all="ignore"):
            found = slopes.first(k, x)
            out[k] = _along(np.hstack([found[name] for name in c.array_names()]), up, other)
    return out


def second_along(c: Coordinates, slopes: Slopes, x: Array, weight: Array) -> Array:
    """(K, Q, Q) second derivatives, summed over rows x (n, d) with weights (n, K)."""
    out = np.zeros((c.n_components, c.width, c.width))
    for k, (up, other) in enumerate(zip(*c.sides(), strict=True)):
        with np.errstate(all="ignore"):
            found = _square(c.array_names(), slopes.second(k, x, weight[:, k]))
            out[k] = _along(_along(found, up, other).T, up, other)
    return out


def _along(columns: Array, up: Array, other: Array) -> Array:
    """Columns of (n, q) picked, less those that give way: (n, Q); 0 where a coordinate moves nothing."""
    found = np.where(up == NOTHING, 0.0, columns[:, up])
    return found - np.where(other == NOTHING, 0.0, columns[:, other]) if (other != NOTHING).any() else found


def _square(names: list[str], found: Mapping[tuple[str, str], Array]) -> Array:
    """One matrix of blocks by two names, of which one order is there."""
    return np.block([[found[one, two] if (one, two) in found else found[two, one].T for two in names] for one in names])
