"""Location and spread of columns, from which an anchor is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import NumericalError

Array = NDArray[Any]

IQR_OF_GAUSSIAN = 1.3489795003921634


MOST_ROWS = 8192
"""Whose quartiles are taken: half a per cent of rank. Those of a sample of 64 MiB took as long as six iterations."""


def location_and_spread(x: Array, weight: Array | None) -> tuple[Array, Array]:
    """Median and spread of every column of the rows that count, float64: what a few wild values cannot move.

    NaN, values that were not observed, do not count; of a column without any value both are 0. The spread is the
    interquartile range in standard deviations of a Gaussian (Tukey 1977), or where that is nil the standard deviation.
    Of many rows, quartiles are those of some, the same in every run.

    Raises
    ------
    NumericalError : squares of a column overflow float64
    """
    counted = x if weight is None else x[weight > 0]
    if not np.isnan(counted).any():
        return _of_columns(counted, np.arange(x.shape[1]))
    center, deviation = np.zeros((2, x.shape[1]))
    for column in range(x.shape[1]):
        own = counted[:, column : column + 1]
        own = own[~np.isnan(own[:, 0])]
        if len(own):
            center[column : column + 1], deviation[column : column + 1] = _of_columns(own, np.array([column]))
    return center, deviation


def _of_columns(counted: Array, names: Array) -> tuple[Array, Array]:
    """Center and deviation of each column of rows (n, columns) without NaN; `names` are the columns' numbers."""
    low, center, high = np.quantile(_some(counted), [0.25, 0.5, 0.75], axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = (high - low) / IQR_OF_GAUSSIAN
        farthest = np.maximum(np.max(counted, axis=0) - center, center - np.min(counted, axis=0))
        # Only these are worth another look at all rows.
        unclear = np.flatnonzero(~(high > low) | ~np.isfinite(len(counted) * farthest**2))
        plain = np.sqrt(np.mean((counted[:, unclear].astype(np.float64) - center[unclear]) ** 2, axis=0))
    if not np.isfinite(plain).all():
        column = int(unclear[np.argmin(np.isfinite(plain))])
        raise NumericalError(
            f"column {names[column]} holds values up to {np.abs(counted[:, column]).max():.3g}, whose squares overflow "
            "float64; rescale it first"
        )
    deviation[unclear] = np.where(high[unclear] > low[unclear], deviation[unclear], plain)
    return center, deviation


def _some(x: Array) -> Array:
    """All rows, or some of many, as float64."""
    if len(x) > MOST_ROWS:
        x = x[np.sort(np.random.default_rng(0).integers(len(x), size=MOST_ROWS))]
    return x.astype(np.float64)
