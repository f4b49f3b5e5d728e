"""What the next steps of an endless Gaussian chain may end in, and how statistics depend on that.

Given the state at the last step, the expected statistics of all steps are polynomials of it, of second degree (Elliott
& Krishnamurthy 1999). They are known by their expectations under a few normal distributions of that state: those in
which the filtered state N(m, L Lᵀ) turns when it is observed once more with noise of its own size, at m + 2 L u for
as many u as such a polynomial has coefficients. In units of L these have the means u and the covariance ½ I.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.models.gaussian_messages import Reach, Told, symmetric

Array = NDArray[Any]


def scale_of(covariance: Array) -> tuple[Array, Array]:
    """(k, k) L with L Lᵀ = covariance, and its inverse, both 0 in directions without variance."""
    values, vectors = np.linalg.eigh(symmetric(covariance))
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    sizes = np.sqrt(np.where(kept, values, 1.0))
    return vectors * np.where(kept, sizes, 0.0), (vectors * np.where(kept, 1.0 / sizes, 0.0)).T


def nodes(k: int) -> Array:
    """((k+1)(k+2)/2, k) means u: 0, each unit vector, its opposite, and sums of two."""
    one = np.eye(k)
    pairs = [one[i] + one[j] for i, j in combinations(range(k), 2)]
    return np.vstack([np.zeros((1, k)), one, -one, *(pair[None] for pair in pairs)])


def shares_of(mean: Array, covariance: Array) -> Array:
    """Weights with which expectations at the nodes give that under a normal distribution, in units of L."""
    k = len(mean)
    second = covariance - 0.5 * np.eye(k) + np.outer(mean, mean)
    own, across = np.diagonal(second), [second[i, j] for i, j in combinations(range(k), 2)]
    beside = second.sum(axis=1) - own
    return np.concatenate([[1.0 - own.sum() + sum(across)], (mean + own) / 2.0 - beside, (own - mean) / 2.0, across])


def endings_of(reach: Reach) -> list[Array]:
    """What following steps would have to tell, packed, for each node of the filtered state."""
    m = reach.vectors[0]
    _, inverse = scale_of(reach.matrices[1])
    matrix, centre = symmetric(inverse.T @ inverse), inverse @ m
    return [Told(matrix, inverse.T @ (centre + 2.0 * u)).packed() for u in nodes(len(m))]


def shares_before(before: Reach, told: Told) -> Array:
    """Weights of the nodes of an earlier state, from what the steps after it tell."""
    found = before.given(told)
    assert found is not None  # a state that depends on nothing
    _, inverse = scale_of(before.matrices[1])
    return shares_of(inverse @ (found[0] - before.vectors[0]), inverse @ found[1] @ inverse.T)
