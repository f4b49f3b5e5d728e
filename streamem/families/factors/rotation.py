"""Loadings up to a rotation of the factors: a form for people, and one in which every number is free.

Densities depend on ΛΛᵀ alone, so loadings can be rotated: q(q − 1)/2 of their numbers say nothing of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

Array = NDArray[Any]

CRITERIA = ("varimax", "quartimax")
"""Of simple loadings: few large ones of each factor, or of each feature."""
MOST_TURNS, SETTLED = 1000, 1e-13
"""Iterations of a rotation at most, and the change of its numbers that ends it."""


def canonical(loadings: Array, noise: Array) -> Array:
    """Loadings (d, q) rotated so that ΛᵀΨ⁻¹Λ is diagonal and falls, the largest correlation of each factor positive.

    Lawley & Maxwell 1971, §4.2: the form in which maximum likelihood has one solution, up to signs, where no two
    numbers of the diagonal are equal. With equal noise (d,) factors are along principal axes.
    """
    values, vectors = np.linalg.eigh(loadings.T @ (loadings / noise[:, None]))
    return _largest_positive(loadings @ vectors[:, np.argsort(-values, kind="stable")], noise)


def simple(loadings: Array, noise: Array, criterion: str) -> Array:
    """Loadings (d, q) rotated so that a criterion is highest, the factor that explains most first.

    Orthomax, Σ_i (Σ_j λ_ji⁴ − γ/d (Σ_j λ_ji²)²) with γ = 1 for varimax (Kaiser 1958) and 0 for quartimax, without
    Kaiser's normalization, by projected gradients (Jennrich 2001, §3), from the rotation that is given: scikit-learn's
    choices. The maximum is a local one; with one factor nothing can be rotated. Signs are those of `canonical`.
    """
    d, q = loadings.shape
    own = loadings / max(float(np.abs(loadings).max(initial=0.0)), np.finfo(np.float64).tiny)
    share, turn = (1.0 / d if criterion == "varimax" else 0.0), np.eye(q)
    for _ in range(MOST_TURNS):
        now = own @ turn
        left, _, right = np.linalg.svd(own.T @ (now**3 - share * now * (now**2).sum(axis=0)))
        before, turn = turn, left @ right
        if np.abs(turn - before).max() <= SETTLED:
            break
    found = loadings @ turn
    return _largest_positive(found[:, np.argsort(-(found**2).sum(axis=0), kind="stable")], noise)


def triangle(loadings: Array, noise: Array) -> Array:
    """(d, q) which numbers of loadings stay free when the factors are rotated so that the others are 0.

    A triangle of q features is 0 above its diagonal; these are the features whose loadings, in standard deviations of
    the noise, span the most (pivoted QR), so that no other rotation has the same zeros nearby.
    """
    d, q = loadings.shape
    order = qr((loadings / np.sqrt(noise)[:, None]).T, mode="r", pivoting=True)[1]
    free = np.ones((d, q), dtype=np.bool_)
    free[order[:q]] = np.tri(q, dtype=np.bool_)
    return free


def in_triangle(loadings: Array, free: Array) -> Array:
    """Loadings (d, q) rotated so that what is not `free` is 0."""
    held = np.flatnonzero(~free.all(axis=1))
    if not len(held):
        return np.array(loadings)
    order = held[np.argsort(free[held].sum(axis=1))]
    rotation = np.linalg.qr(loadings[order].T, mode="complete")[0]
    return np.asarray(np.where(free, loadings @ rotation, 0.0))


def _largest_positive(turned: Array, noise: Array) -> Array:
    """Loadings (d, q), the largest correlation of each factor positive."""
    shares = np.abs(turned) / np.sqrt((turned**2).sum(axis=1) + noise)[:, None]
    largest = turned[shares.argmax(axis=0), np.arange(turned.shape[1])]
    return np.asarray(turned * np.where(largest < 0, -1.0, 1.0))
