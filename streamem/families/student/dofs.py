"""Degrees of freedom: their functions to full precision however large they are, and the equation that finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, polygamma

from streamem.core.errors import ParameterError

Array = NDArray[Any]

LEAST_DOF, MOST_DOF = 0.1, 2.0**20
"""Bounds of estimated degrees of freedom; beyond the upper one a density is a Gaussian's within d²/10⁶ nats."""

ASYMPTOTIC = 16.0
"""From here on series in 1/x (Abramowitz & Stegun 1964, 6.1.41 and 6.3.18) are exact to a few units."""

STEPS = 64
"""More than the equation needs: quadratic convergence from a start within a tenth takes five."""


def normalizing(dofs: Array, d: int) -> Array:
    """log Γ(½(ν + d)) − log Γ(½ν) − ½d·log(½ν), which goes to 0 as ν → ∞: (K,)."""
    a, h = 0.5 * np.minimum(dofs, 2.0**60), 0.5 * d
    near = np.minimum(a, ASYMPTOTIC)
    plain = gammaln(near + h) - gammaln(near) - h * np.log(near)
    far = (a + h - 0.5) * np.log1p(h / a) - h + _stirling(a + h) - _stirling(a)
    return np.asarray(np.where(a < ASYMPTOTIC, plain, far))


def expected_log(dofs: Array, d: int) -> Array:
    """E[log w] + log(1 + δ/ν) = ψ(½(ν + d)) − log ½ν of w ~ Γ(½(ν + d), ½(ν + δ)): (K,)."""
    a, h = 0.5 * np.minimum(dofs, 2.0**60), 0.5 * d
    return np.asarray(np.log1p(h / a) - log_less_digamma(a + h))


def log_less_digamma(x: Array) -> Array:
    """log x − ψ(x) > 0, which falls from ∞ to 0 as 1/(2x)."""
    near = np.minimum(x, ASYMPTOTIC)
    z = 1.0 / np.square(np.maximum(x, ASYMPTOTIC))
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z / 132))))
    return np.asarray(np.where(x < ASYMPTOTIC, np.log(near) - digamma(near), 0.5 / x + series))


def best_dofs(target: Array) -> Array:
    """ν within the bounds that maximizes ½ν·log ½ν − log Γ(½ν) − ½ν·(1 + target): (K,).

    The function is concave and its derivative vanishes where log ½ν − ψ(½ν) = target: Newton's steps in log ν, within
    a bracket that every step narrows. The start is Minka's for a gamma distribution (2002, eq. 10).
    """
    low, high = np.full(len(target), 0.5 * LEAST_DOF), np.full(len(target), 0.5 * MOST_DOF)
    t = np.maximum(target, 1e-300)
    x = np.clip((3.0 - t + np.sqrt((t - 3.0) ** 2 + 24.0 * t)) / (12.0 * t), low, high)
    for _ in range(STEPS):
        excess = log_less_digamma(x) - target
        low, high = np.where(excess >= 0, x, low), np.where(excess <= 0, x, high)
        slope = x * polygamma(1, x) - 1.0  # minus the derivative by log x, positive
        step = x * np.exp(np.clip(excess / np.maximum(slope, 1e-300), -1.0, 1.0))
        inside = (step > low) & (step < high)
        found = np.where(inside, step, np.sqrt(low * high))
        at_bound = (excess < 0) & (x <= 0.5 * LEAST_DOF) | (excess > 0) & (x >= 0.5 * MOST_DOF)
        found = np.where(at_bound | (excess == 0), x, found)
        if (np.abs(found - x) <= 4e-16 * x).all():
            break
        x = found
    return 2.0 * x


def checked_dof(dof: Any) -> str | float | tuple[float, ...]:
    """The hyperparameter as words, a number, or numbers.

    Raises
    ------
    ParameterError : anything else, or numbers that are not positive
    """
    if isinstance(dof, str):
        if dof not in ("estimated", "tied"):
            raise ParameterError(f'dof is {dof!r}; it must be "estimated", "tied", a number > 0, or one a component')
        return dof
    try:
        values = np.asarray(dof, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if isinstance(dof, bool) or values.ndim > 1 or not values.size or not (values > 0).all():
        raise ParameterError(f'dof is {dof!r}; it must be "estimated", "tied", a number > 0, or one a component')
    return float(values) if values.ndim == 0 else tuple(values.tolist())


def _stirling(x: Array) -> Array:
    """log Γ(x) − (x − ½)·log x + x − ½ log 2π, for large x."""
    z = 1.0 / np.square(np.maximum(x, ASYMPTOTIC))
    series = 1 / 12 - z * (1 / 360 - z * (1 / 1260 - z * (1 / 1680 - z * (1 / 1188 - z * (691 / 360360)))))
    return np.asarray(series / np.maximum(x, ASYMPTOTIC))
