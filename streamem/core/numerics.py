"""Numerical building blocks that every model shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPS = float(np.finfo(np.float64).eps)


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
