"""Several arrays in one of numbers, so that what each factor of a product found travels together."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def packed(arrays: Sequence[Array]) -> Array:
    """One float64 array of the arrays after one another, each behind its number of axes and their lengths.

    >>> [one.tolist() for one in unpacked(packed([np.array([1.0, 2.0]), np.array(3.0)]))]
    [[1.0, 2.0], 3.0]
    """
    pieces = [np.concatenate([[one.ndim, *one.shape], one.ravel()]) for one in map(np.asarray, arrays)]
    return np.concatenate(pieces).astype(np.float64) if pieces else np.empty(0)


def unpacked(values: Array) -> list[Array]:
    """The inverse of `packed`."""
    found, at = [], 0
    while at < len(values):
        axes = int(values[at])
        shape = tuple(int(length) for length in values[at + 1 : at + 1 + axes])
        at += 1 + axes
        found.append(np.asarray(values[at : at + prod(shape)]).reshape(shape))
        at += prod(shape)
    return found
