"""Where covariances stop shrinking, in the anchored frame, where the data has unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS
from streamem.core.stats import Stats

Array = NDArray[Any]

FLOOR = 2.0**-40
"""Smallest eigenvalue of a covariance: about 9e-13."""

EPS_32 = float(np.finfo(np.float32).eps)

UNITS = 16.0
"""So many rounding errors of a mean square are the smallest variance that is computed from it."""

MEAN_DIGITS = 64.0 * EPS
"""Part of the square of a mean that counts as a mean square: the mean's own rounding moves it, by 1/1024 of that."""


def floor_of(size: Array, eps: Array | float, d: int) -> Array:
    """Smallest variances that say anything, where they are differences of mean squares of given size.

    The M-step maximizes under Σ ⪰ diag(floor). Ordinary data have FLOOR in every direction; a component of rows so
    large, or so far away, that rounding leaves fewer digits than that gets a floor that lies above the rounding. Of
    sums in float32 only the rounding of the sums counts, not of the eigenvalues of d features.
    """
    return np.maximum(FLOOR, UNITS * eps * np.where(np.asarray(eps) == EPS, d, np.sqrt(d)) * size)


def eps_of(stats: Stats, d: int) -> float:
    """The unit of rounding of statistics by products, from a bound on the rounding of their log-densities if given.

    It is at least 8·eps·d in float32, and far below that in float64.
    """
    return EPS_32 if "rounding" in stats and float(stats.rounding) > 4.0 * EPS_32 * d else EPS
