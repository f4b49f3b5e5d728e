"""Where covariances stop shrinking, in the anchored frame, where the data has unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS

Array = NDArray[Any]

FLOOR = 2.0**-40
"""Smallest eigenvalue of a covariance: about 9e-13."""

DIGITS = 16.0 * EPS
"""Smallest part of a mean square that rounding leaves of a variance computed from it."""

MEAN_DIGITS = 64.0 * EPS
"""The same part of the square of a mean, whose own rounding moves it: a floor of d·(32·eps·m)² takes 1/1024 of that."""


def floor_of(size: Array, digits: float = DIGITS) -> Array:
    """Smallest variances that say anything, where they are differences of mean squares of given size.

    The M-step maximizes under Σ ⪰ diag(floor). Ordinary data have FLOOR in every direction; a component of rows so
    large, or so far away, that rounding leaves fewer digits than that gets a floor that lies above the rounding.
    """
    return np.maximum(FLOOR, digits * size)
