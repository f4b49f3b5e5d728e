"""Where shape parameters end, and safeguarded searches of the equations that M-steps solve.

If all values of a component are equal the likelihood grows without bound with its shape. The M-step maximizes under the
bound instead, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST = 2.0**26
"""Largest shape or concentration: a relative spread of about 1e-4, which float64 sums of logarithms still resolve."""

LEAST = 2.0**-40
"""Smallest shape."""

STEPS = 100
"""Most steps of a search: bisection alone would need fewer."""


def root_of(slope: Callable[[Array], tuple[Array, Array]], start: Array, low: float, high: float) -> Array:
    """Where a falling function of log s crosses 0, between low and high: Newton's steps, else bisection in log s.

    Parameters
    ----------
    slope : s → the function and its derivative by log s
    start : where to begin, of the shape of the result
    low, high : bounds of s; where there is no root between them, the result ends at one
    """
    below, above = np.full(start.shape, np.log(low)), np.full(start.shape, np.log(high))
    at = np.clip(np.log(start), below, above)
    for _ in range(STEPS):
        value, derivative = slope(np.exp(at))
        below, above = np.where(value > 0, at, below), np.where(value > 0, above, at)
        with np.errstate(all="ignore"):
            step = at - value / derivative
        inside = (step > below) & (step < above)  # a step that is no number is not
        after = np.where(value == 0, at, np.where(inside, step, 0.5 * (below + above)))
        if not (np.abs(after - at) > 4e-16 * np.maximum(1.0, np.abs(at))).any():
            break
        at = after
    return np.exp(at)
