"""The M-step of degrees of freedom, with the mean of the precisions as one more parameter.

In the expanded model the precision of a row is w ~ α_k·Γ(½ν_k, ½ν_k). With S_k second moments under r·u, the expected
log-likelihood is maximal at Σ* = S/n, α = Σ r·u/n, and Σ = Σ*/α (Liu, Rubin & Wu 1998, §3.2). Components that share
one matrix share one α too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.gaussian.covariance import Covariance
from streamem.families.student.dofs import best_dofs

Array = NDArray[Any]

ROUNDS = 200
"""Of α and ν in turn, where one α serves components of different ν."""


class Precisions(NamedTuple):
    """What the statistics say of precisions.

    Attributes
    ----------
    weight : (K,) n = Σ r
    scaled : (K,) Σ r·u
    logs : (K,) Σ r·E[log w]
    empty : (K,) components without rows
    """

    weight: Array
    scaled: Array
    logs: Array
    empty: Array

    def counted(self, values: Array) -> Array:
        """Values, 0 of components without rows."""
        return np.where(self.empty, 0.0, values)

    def pooled_ratio(self, expansion: Array) -> float:
        """Σ r·u of all components, to α times their weight."""
        total = float((self.counted(self.weight) * expansion).sum())
        return float(self.counted(self.scaled).sum()) / total if total > 0 else 1.0


def expansions(precisions: Precisions, dofs: Array, shared: bool) -> Array:
    """α (K,) at given degrees of freedom: 1 for components without rows, the same for all that share a matrix."""
    if shared:
        nu = precisions.counted(np.minimum(dofs, 2.0**60))
        nu = nu / nu.max() if nu.any() else nu
        total = float((nu * precisions.weight).sum())
        return np.full(len(dofs), float((nu * precisions.scaled).sum()) / total if total > 0 else 1.0)
    weight = np.where(precisions.empty, 1.0, precisions.weight)
    return np.where(precisions.empty, 1.0, precisions.scaled / weight)


def dofs_and_expansions(
    precisions: Precisions, dofs: Array, kind: str | float | tuple[float, ...], shared: bool
) -> tuple[Array, Array]:
    """Degrees of freedom (K,) and α (K,) that maximize together; components without rows keep theirs."""
    alpha = expansions(precisions, dofs, shared)
    if not isinstance(kind, str) or precisions.empty.all():
        return dofs, alpha
    for _ in range(ROUNDS if shared and kind == "estimated" else 1):
        before, dofs = dofs, _best(precisions, dofs, alpha, kind)
        alpha = expansions(precisions, dofs, shared)
        if (np.abs(dofs - before) <= 1e-14 * dofs).all():
            break
    return dofs, alpha


def _best(precisions: Precisions, dofs: Array, alpha: Array, kind: str) -> Array:
    """ν at given α: log ½ν − ψ(½ν) = log α + Σ r·u/(n·α) − 1 − Σ r·E[log w]/n."""
    weight = np.where(precisions.empty, 1.0, precisions.weight)
    ratio = np.where(precisions.empty, 1.0, precisions.scaled / (weight * alpha))
    target = np.log(alpha) + (ratio - 1.0) - precisions.logs / weight
    if kind == "tied":
        counted = precisions.counted(precisions.weight)
        return np.repeat(best_dofs(np.array([counted @ target / counted.sum()])), len(dofs))
    return np.where(precisions.empty, dofs, best_dofs(np.where(precisions.empty, 1.0, target)))


def bound_objective(
    structure: Covariance, params: Params, moments: Stats, precisions: Precisions, origin: Array, penalties: Array
) -> Array:
    """What the M-step maximizes at the best α, (K,), or () for all together, up to a constant that no ν changes.

    The quadratic terms and ν·Σ r·u appear as −½(ν + d)·n·log of their sum: the profile of α.
    """
    k, d = params.means.shape
    nu, n = np.minimum(params.dofs, 2.0**40), precisions.counted(precisions.weight)
    about = structure.shifted(moments.second, moments.first, moments.weight, origin - params.means)
    quadratic = 2.0 * (penalties - _per_component(structure, params, about, k))
    sizes = n * (nu + d)
    sums = quadratic + precisions.counted(nu * precisions.scaled)
    if structure.shared:
        sizes, sums = sizes.sum(), sums.sum()
    alpha = np.where(sizes > 0, sums / np.where(sizes > 0, sizes, 1.0), 1.0)
    own = n * (0.5 * nu * np.log(0.5 * nu) - gammaln(0.5 * nu)) + precisions.counted(0.5 * nu * precisions.logs)
    determinant = structure.log_det(params.precisions_cholesky, d)
    gained = n * determinant + own
    return np.asarray((gained.sum() if structure.shared else gained) - 0.5 * sizes * (np.log(alpha) + 1.0))


def _per_component(structure: Covariance, params: Params, about: Array, k: int) -> Array:
    """−½ tr Σ⁻¹S (K,); of a shared matrix, an equal part of the sum each."""
    quadratic = (structure.quadratic(params.precisions_cholesky) * about).sum(axis=-1)
    return np.full(k, quadratic / k) if structure.shared else np.asarray(quadratic)
