"""How far the M-step of a Gaussian may miss the maximum of its objective: rounding, and floors that rise.

The objective of component k is n_k·(log|U| − ½ tr UᵀMU) − R, with M the second moment about its mean under the
responsibilities of the E-step, P = U Uᵀ its precision and R the penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.rounding import SAFETY

Array = NDArray[Any]


class Sizes(NamedTuple):
    """Terms whose difference is a covariance, shaped as the floor: full and diag (K, d), tied (d,), spherical (K,).

    Attributes
    ----------
    squares : mean squares of the rows about the origin of their moments
    means : squares of the new means
    eps : units of rounding of the sums
    """

    squares: Array
    means: Array
    eps: Array


def precision_diagonal(structure: Covariance, params: Params) -> Array:
    """Diagonal of the precision of every component (K, d), or of a covariance that all share (d,)."""
    factor, d = params.precisions_cholesky, params.means.shape[1]
    question = ("precision diagonal", type(structure))
    return cached_by_identity(params.means, factor, question, lambda: structure.precision_diagonal(factor, d))


def least_of(structure: Covariance, covariances: Array, sizes: Sizes | None) -> Array:
    """The floor under covariances that were given, or are differences of such sizes."""
    if sizes is None:
        return structure.least(structure.size(covariances, 0.0, 0.0))
    return structure.least(structure.size(covariances, sizes.squares, sizes.means), sizes.eps)


def shortfall(
    structure: Covariance,
    old: Params,
    new: Params,
    weight: Array,
    sizes: Sizes,
    objective: Callable[[Params], Array],
    together: int = 1,
) -> float:
    """Nats by which `new` may be below what the best parameters would gain over `old`.

    Parameters
    ----------
    weight : n (K,)
    sizes : of the statistics
    objective : of all components (K,), or of a covariance that all share (), by the statistics
    together : components that share a covariance

    Notes
    -----
    With M + E in place of M, |E| ~ c·eps times the mean squares of which M is a difference, the maximizer loses
    ¼ tr(PEPE). A mean that rounds to 2·eps·m costs ½·Σ_i P_ii·(2·eps·m_i)². A floor of FLOOR is the same in all steps
    and costs nothing; one that has risen above may exclude `old`. Then both are compared, each to ½·tr(PE).
    """
    n = np.asarray(weight.sum() if structure.shared else weight)
    size = structure.size(new.covariances, sizes.squares, sizes.means)
    lost = structure.lost(precision_diagonal(structure, new), size, sizes.eps)
    missed = n * (0.5 * SAFETY**2 * lost + 2.0 * EPS**2 * _along(structure, new, sizes.means))
    raised = new.floored & (structure.least(size, sizes.eps) > FLOOR).reshape(*new.floored.shape, -1).any(axis=-1)
    if not raised.any():
        return float(missed.sum())
    rounded = sizes.eps * size
    rounding = 0.5 * SAFETY * (_along(structure, old, rounded) + _along(structure, new, rounded))
    fall = (objective(old) - objective(new) + n * rounding).reshape(-1, together).sum(axis=1)
    return float(missed.sum() + np.maximum(fall, 0.0)[raised.reshape(-1, together).any(axis=1)].sum())


def expected_log_likelihood(structure: Covariance, params: Params, stats: Stats, origin: Array) -> Array:
    """Σ_rows r_k·log p_k up to a constant, (K,) or () for all together, by moments about an origin (K, d)."""
    about = structure.shifted(stats.second, stats.first, stats.weight, origin - params.means)
    factor, n = params.precisions_cholesky, stats.weight.sum() if structure.shared else stats.weight
    quadratic = (structure.quadratic(factor) * about).sum(axis=-1)
    return np.asarray(n * structure.log_det(factor, params.means.shape[1]) + quadratic)


def _along(structure: Covariance, params: Params, squares: Array) -> Array:
    """Σ_i P_ii·squares_i, (K,) or ()."""
    diagonal = precision_diagonal(structure, params)
    return np.asarray((diagonal * (squares if squares.ndim == diagonal.ndim else squares[:, None])).sum(axis=-1))
