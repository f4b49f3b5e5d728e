"""Densities of mixtures from those of their parts, and weights divided among parts, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.plain.features import quietly

Array = NDArray[Any]

LEAST_PEAK, LEAST_SUM = 1e-12, 1e-250
"""As in `nested.nested_mixtures_pass`."""


@quietly
def joined(parts: Array, weights: Array, b: Array, peaks: Array) -> bool:
    """b (n, width) = Σ_m w_km p_m of parts (n, at least K·M), weights (K, M), divided by the largest of the row.

    The logarithm of that is added to peaks (n,). False where numbers do not suffice.
    """
    k, m = weights.shape
    b[:, :k] = (parts[:, : k * m].reshape(-1, k, m) * weights).sum(axis=2)
    highest = b[:, :k].max(axis=1)
    b[:, :k] *= 1.0 / highest[:, None]
    b[:, k:] = 0.0
    peaks += np.log(highest)
    return bool(((highest >= LEAST_PEAK) & (highest < np.inf)).all())


@quietly
def divided(parts: Array, weights: Array, gamma: Array, sums: Array) -> bool:
    """parts (n, width), densities of K·M parts → gamma (n, at least K) divided among them; adds it to sums (K, M).

    False, and then sums are as before, where numbers do not suffice.
    """
    k, m = weights.shape
    own = parts[:, : k * m].reshape(-1, k, m) * weights
    total, share = own.sum(axis=2), gamma[:, :k]
    counts = share != 0.0
    if (counts & ~(total >= LEAST_SUM)).any():
        return False
    factor = np.where(counts, share / total, 0.0)
    own = np.where(counts[:, :, None], own * factor[:, :, None], 0.0)
    parts[:, : k * m] = own.reshape(-1, k * m)
    sums += own.sum(axis=0)
    return True
