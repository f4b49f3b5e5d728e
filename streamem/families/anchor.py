"""Location and spread of columns, from which an anchor is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import NumericalError

Array = NDArray[Any]

IQR_OF_GAUSSIAN = 1.3489795003921634


def location_and_spread(x: Array, weight: Array | None) -> tuple[Array, Array]:
    """Median and spread of every column of the rows that count: what a few wild values cannot move.

    The spread is the interquartile range in standard deviations of a Gaussian (Tukey 1977), or where that is nil the
    standard deviation.
    """
    counted = x if weight is None else x[weight > 0]
    low, center, high = np.quantile(counted, [0.25, 0.5, 0.75], axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.sqrt(np.mean((counted - center) ** 2, axis=0))
        deviation = np.where(high > low, (high - low) / IQR_OF_GAUSSIAN, plain)
    if not (np.isfinite(center).all() and np.isfinite(plain).all()):
        column = int(np.argmin(np.isfinite(center) & np.isfinite(plain)))
        raise NumericalError(
            f"column {column} holds values up to {np.abs(x[:, column]).max():.3g}, whose squares overflow float64; "
            "rescale it first"
        )
    return center, deviation
