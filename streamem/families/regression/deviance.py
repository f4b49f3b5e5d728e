"""How far counts are from their means, without cancellation of terms that are as large as the counts.

After Loader (2000), Fast and accurate computation of binomial probabilities: of counts of a billion, y·η and log y! are
of the size of 2·10¹⁰, and a log-probability is about −12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[Any]

FEW = 1024.0
"""Counts up to which logarithms of their size lose nothing that matters, and are quicker."""
LARGE = 16.0
"""Counts from which on Stirling's series has fifteen digits of its own error."""


def deviance(count: Array, apart: Array) -> Array:
    """y·log(y/m) + m − y >= 0 of counts y > 0 with means m, given `apart`, log y − log m."""
    return np.asarray(count * (apart + np.expm1(-apart)))


def log_peak(count: Array) -> Array:
    """y·log y − y − log y! of counts y > 0: the log-probability of a Poisson count that is its mean."""
    small = np.minimum(count, LARGE)
    series = 1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / 1680.0 / count**2) / count**2) / count**2
    far = -0.5 * np.log(2.0 * np.pi * count) - series / count
    return np.asarray(np.where(count > LARGE, far, small * np.log(small) - small - gammaln(small + 1.0)))
