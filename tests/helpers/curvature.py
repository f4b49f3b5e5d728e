"""Second derivatives of any function by differences, and the errors that follow, apart from what is tested."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ROUNDS = 3


def hessian(f: Callable[[Array], float], at: Array, step: float) -> Array:
    """(p, p) second derivatives: central differences with a step, a half and a quarter of it, extrapolated."""
    p, here, unit = len(at), f(at), np.eye(len(at))
    out = np.zeros((p, p))
    for i in range(p):
        for j in range(i, p):
            found = [_mixed(f, at, here, unit[i], unit[j], h) for h in _steps(step)]
            out[i, j] = out[j, i] = _extrapolated(found)
    return out


def gradient(f: Callable[[Array], Any], at: Array, step: float = 0.01) -> Array:
    """(p, …) first derivatives, likewise, of a number or of several."""
    unit = np.eye(len(at))
    return np.array([_extrapolated([(f(at + h * u) - f(at - h * u)) / (2 * h) for h in _steps(step)]) for u in unit])


def errors(f: Callable[[Array], float], at: Array, step: float = 0.01) -> Array:
    """(p,) standard errors of what maximizes a log-likelihood."""
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(-hessian(f, at, step)))))


def _steps(step: float) -> list[float]:
    return [step * 0.5**r for r in range(ROUNDS)]


def _mixed(f: Callable[[Array], float], at: Array, here: float, one: Array, other: Array, h: float) -> float:
    if one is other or (one == other).all():
        return (f(at + h * one) - 2 * here + f(at - h * one)) / h**2
    same, opposed = h * (one + other), h * (one - other)
    return (f(at + same) - f(at + opposed) - f(at - opposed) + f(at - same)) / (4 * h**2)


def _extrapolated(values: list[Any]) -> Any:
    """Richardson's: each round takes one more even power of the step away."""
    for m in range(1, len(values)):
        values = [(finer * 4**m - coarser) / (4**m - 1) for coarser, finer in pairwise(values)]
    return values[0]
