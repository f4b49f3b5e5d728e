"""Numerical building blocks that every model shares."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from streamem.core import loops

Array = NDArray[Any]
Method = TypeVar("Method", bound=Callable[..., Any])

BUFFER_ELEMENTS = 1024
EPS = float(np.finfo(np.float64).eps)


def small_buffers(method: Method) -> Method:
    """A method in which NumPy's ufuncs work in pieces of 8 kB instead of 64 kB.

    Measured (NumPy 2.4) on a block of 32×1024: a broadcast product takes 0.006 ms instead of 0.018, and 0.072 where
    free memory goes back to the system at once, as on Dask's workers (MALLOC_TRIM_THRESHOLD_).
    """

    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        before = np.setbufsize(BUFFER_ELEMENTS)
        try:
            return method(*args, **kwargs)
        finally:
            np.setbufsize(before)

    return cast(Method, run)


class Normalized(NamedTuple):
    """What `normalize_log_rows` knows of every row besides its responsibilities.

    Attributes
    ----------
    log_density : (b,) float64, in nats
    active : (b,) number of components whose responsibility is above `negligible`
    """

    log_density: Array
    active: Array


def negligible(k: int) -> float:
    """The responsibility below which K components together are less than a rounding error of the density."""
    return EPS / k


def normalize_log_rows(log_joint: Array, log_weights: Array) -> Normalized:
    """Turn log-densities into responsibilities in place, by log-sum-exp: finite for a row however far away.

    Parameters
    ----------
    log_joint : (k, b) float64 or float32, C-contiguous
        log p_k(x), in nats; overwritten with responsibilities that sum to 1 over k.
    log_weights : (k,) log w_k
    """
    k, b = log_joint.shape
    peak, inverse, active = np.empty((3, b), dtype=log_joint.dtype)
    least = log_joint.dtype.type(negligible(k))
    loops.normalize(log_joint, log_weights.astype(log_joint.dtype), peak, inverse, active, least)
    density = np.log(inverse, dtype=np.float64)
    return Normalized(np.subtract(peak, density, out=density), active)
