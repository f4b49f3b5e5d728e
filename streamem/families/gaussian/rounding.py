"""How much the log-densities of a Gaussian round, by either arithmetic, at given parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import EPS
from streamem.families.gaussian.covariance import Covariance

Array = NDArray[Any]

WORST = 1e200
"""More says no more, and is not finite soon."""

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""


def conditioning(structure: Covariance, params: Params) -> float:
    """How far the terms of a log-density exceed the log-density itself: max_k ‖(P_ij·r_i·r_j)‖_F, anchored.

    r_i² = m_i² + Σ_ii is the mean square of feature i over rows that component k explains, so the entries are the
    typical terms of the quadratic form x̃ᵀPx̃, and rounding errors add up as their root of squares (Higham & Mary 2019).
    A row far from a component is misjudged by more, but there its density is nil whatever the rounding.
    """
    return float(conditionings(structure, params).max())


def conditionings(structure: Covariance, params: Params) -> Array:
    """Values of each component (K,)."""
    return cached_by_identity(
        params.means,
        params.precisions_cholesky,
        ("conditioning", type(structure)),
        lambda: _conditionings(structure, params),
    )


@np.errstate(over="ignore", invalid="ignore")  # of means that a prior holds 1e80 spreads off, say: as bad as can be
def _conditionings(structure: Covariance, params: Params) -> Array:
    k, d = params.means.shape
    spread = structure.variances(params.covariances, k, d) + params.means**2
    squared = structure.squared_precisions(params.precisions_cholesky)
    found = np.nan_to_num(structure.term_norms(squared, np.sqrt(spread)), nan=WORST, posinf=WORST)
    return np.asarray(np.minimum(found, WORST))


def product_rounding(structure: Covariance, params: Params, dtype: DTypeLike = np.float64) -> float:
    """Bound on the rounding error of a log-density by products in `dtype`: 8·eps·(conditioning + d), in nats."""
    return float(product_roundings(structure, params, dtype).max())


def product_roundings(structure: Covariance, params: Params, dtype: DTypeLike = np.float64) -> Array:
    """Values of each component (K,)."""
    return SAFETY * float(np.finfo(dtype).eps) * (conditionings(structure, params) + params.means.shape[1])


def difference_rounding(structure: Covariance, params: Params) -> float:
    """Bound on the rounding error of a log-density by differences: 8·eps·(d + 2√(d·conditioning)), in nats."""
    d = params.means.shape[1]
    return SAFETY * EPS * (d + 2.0 * float(np.sqrt(d * conditioning(structure, params))))
