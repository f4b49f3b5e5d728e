"""Rows so far away that the squares of their distances overflow: which component is nearest, and by how much.

With a row x̃ = 2^e·u, u about 1, the residual of a component is 2^e·(a + b·2^−e), where a is linear in u and b the
component's own; −½ its square is the log-density but for a constant. To compare components only, the largest terms are
compared first: 2^e·|a|², then a·b, then |b|²·2^−e.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Residuals(NamedTuple):
    """Whitened residuals of far rows under K components.

    Attributes
    ----------
    exponents : (n,) e
    leading : from the index of a component, a (d, n)
    own : (K, d) b
    constants : (K,) log-density of a residual of 0, in nats
    """

    exponents: Array
    leading: Callable[[int], Array]
    own: Array
    constants: Array


def anchored_far(x: Array, center: Array, scale: Array) -> tuple[Array, Array]:
    """x̃ = (x − center) / scale of rows x (n, d) as u (n, d) and e (n,), where x̃ itself may overflow."""
    first = _exponents(np.maximum(np.abs(x), np.abs(center)))
    moved = (np.ldexp(x, -first[:, None]) - np.ldexp(center, -first[:, None])) / scale
    second = _exponents(np.abs(moved))
    return np.ldexp(moved, -second[:, None]), first + second


def _exponents(sizes: Array) -> Array:
    """e with the largest of a row (n, d) in [2^e, 2^(e + 1))."""
    return np.asarray(np.frexp(sizes.max(axis=1))[1] - 1)


@np.errstate(over="ignore", under="ignore")
def far_log_prob(residuals: Residuals) -> Array:
    """Log-densities (n, K) in nats; −∞ where they are below what float64 holds."""
    out = np.empty((len(residuals.exponents), len(residuals.constants)))
    for k, constant in enumerate(residuals.constants):
        whitened = residuals.leading(k) + np.ldexp(residuals.own[k][:, None], -residuals.exponents)
        out[:, k] = constant - 0.5 * np.ldexp((whitened**2).sum(axis=0), 2 * residuals.exponents)
    return out


@np.errstate(over="ignore", under="ignore")
def far_order(residuals: Residuals) -> Array:
    """Numbers (n, K) that order the components of a row as their log-densities do, where all of these are −∞."""
    exponents = residuals.exponents
    squares, linear = np.empty((2, len(exponents), len(residuals.constants)))
    for k, own in enumerate(residuals.own):
        leading = residuals.leading(k)
        squares[:, k], linear[:, k] = (leading**2).sum(axis=0), own @ leading
    rest = residuals.constants - 0.5 * (residuals.own**2).sum(axis=1)
    behind = squares - squares.min(axis=1, keepdims=True)
    return np.asarray(-0.5 * np.ldexp(behind, exponents[:, None]) - linear + np.ldexp(rest, -exponents[:, None]))
