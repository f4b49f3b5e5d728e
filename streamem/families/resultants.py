"""Directions: how concentrated unit vectors are, given the length of their mean, in any number of dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e, i1e

from streamem.families.shape_bounds import MOST, root_of

Array = NDArray[Any]

LEAST_KAPPA = 2.0**-40
RATIO_ORDER, LOG_ORDER = 40.0, 250.0
"""Orders from which on four terms of the uniform expansions have all digits; recurrences lead down from there."""


class _Uniform(NamedTuple):
    """log I_ν(κ) − κ, and I_{ν+1}(κ)/I_ν(κ), by the uniform expansions of large ν (DLMF 10.41.3 and 10.41.5)."""

    log: Array
    ratio: Array


def concentration(length: Array, d: int) -> Array:
    """κ of unit vectors of d dimensions whose mean has a length R: A(κ) = I_{d/2}(κ)/I_{d/2−1}(κ) = R.

    Between 2⁻⁴⁰ and 2²⁶; from Banerjee et al. 2005, eq. 4.4, by Newton's steps with A' = 1 − A² − (d − 1)A/κ (Sra
    2012), safeguarded by bisection.
    """
    r = np.clip(length, 0.0, 1.0)
    first = np.clip(r * (d - r * r) / np.maximum(1.0 - r * r, 1e-12), LEAST_KAPPA, MOST)

    def lacking(kappa: Array) -> tuple[Array, Array]:
        a = mean_length(kappa, d)
        return r - a, -np.abs(kappa * ((1.0 - a) * (1.0 + a) - (d - 1.0) * a / kappa))

    return root_of(lacking, first, LEAST_KAPPA, MOST)


def mean_length(kappa: Array, d: int) -> Array:
    """A(κ), the length of the mean of unit vectors of d dimensions, for κ > 0."""
    if d == 2:
        return np.asarray(i1e(kappa) / i0e(kappa))
    nu = 0.5 * d - 1.0
    steps = max(10, int(np.ceil(RATIO_ORDER - nu)))
    ratio = _uniform(kappa, nu + steps).ratio
    for j in range(steps, 0, -1):
        ratio = kappa / (2.0 * (nu + j) + kappa * ratio)
    return np.asarray(ratio)


def log_bessel(kappa: Array, nu: float) -> Array:
    """log I_ν(κ) − κ for κ > 0, where I_ν itself overflows or vanishes too."""
    steps = max(0, int(np.ceil(LOG_ORDER - nu)))
    found = _uniform(kappa, nu + steps)
    total, ratio = found.log, found.ratio
    for j in range(steps, 0, -1):
        ratio = kappa / (2.0 * (nu + j) + kappa * ratio)
        total = total - np.log(ratio)
    return np.asarray(total)


def _uniform(kappa: Array, nu: float) -> _Uniform:
    root = np.sqrt(nu * nu + kappa * kappa)
    p = nu / root
    p2 = p * p
    u = 1.0 + _series(nu, p, p2, _U)
    v = 1.0 + _series(nu, p, p2, _V)
    exponent = nu * nu / (root + kappa) + nu * np.log(kappa / (nu + root))
    log = exponent - 0.5 * np.log(2 * np.pi * root) + np.log(u)
    return _Uniform(log, np.maximum((root * v / u - nu) / kappa, 0.0))


_U = (
    (1.0 / 24.0, (3.0, -5.0)),
    (1.0 / 1152.0, (81.0, -462.0, 385.0)),
    (1.0 / 414720.0, (30375.0, -369603.0, 765765.0, -425425.0)),
    (1.0 / 39813120.0, (4465125.0, -94121676.0, 349922430.0, -446185740.0, 185910725.0)),
)
_V = (
    (1.0 / 24.0, (-9.0, 7.0)),
    (1.0 / 1152.0, (-135.0, 594.0, -455.0)),
    (1.0 / 414720.0, (-42525.0, 451737.0, -883575.0, 475475.0)),
    (1.0 / 39813120.0, (-5740875.0, 115038828.0, -410634120.0, 508012395.0, -206701285.0)),
)
"""Factors and coefficients of the polynomials u and v in p² (DLMF 10.41.10 and 10.41.11), without the leading pʲ."""


def _series(nu: float, p: Array, p2: Array, terms: tuple[tuple[float, tuple[float, ...]], ...]) -> Array:
    total, power = np.zeros_like(p), p / nu
    for factor, coefficients in terms:
        inner = np.zeros_like(p)
        for coefficient in reversed(coefficients):
            inner = inner * p2 + coefficient
        total = total + factor * power * inner
        power = power * p / nu
    return total
