"""Numerical building blocks that every model shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUFFER_ELEMENTS = 1024
EPS = float(np.finfo(np.float64).eps)


@contextmanager
def small_buffers() -> Iterator[None]:
    """Let NumPy's ufuncs work in pieces of 8 kB instead of 64 kB; also a decorator.

    Measured (NumPy 2.4) on a block of 32×1024: a broadcast product takes 0.006 ms instead of 0.018, and 0.072 where
    free memory goes back to the system at once, as on Dask's workers (MALLOC_TRIM_THRESHOLD_).
    """
    before = np.setbufsize(BUFFER_ELEMENTS)
    try:
        yield
    finally:
        np.setbufsize(before)


def normalize_log_rows(log_joint: NDArray[Any]) -> NDArray[Any]:
    """Turn log-joint densities into responsibilities in place and return the log-densities.

    Parameters
    ----------
    log_joint : (k, b) float
        log w_k + log p_k(x), in nats; overwritten with responsibilities that sum to 1 over k.

    Returns
    -------
    (b,) log-densities, by log-sum-exp: finite for a row however far away.
    """
    peak = log_joint.max(axis=0)
    log_joint -= peak
    np.exp(log_joint, out=log_joint)
    total = log_joint.sum(axis=0)
    log_joint /= total
    np.log(total, out=total)
    total += peak
    return total
