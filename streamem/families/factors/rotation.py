"""Loadings up to a rotation of the factors: a form for people, and one in which every number is free.

Densities depend on ΛΛᵀ alone, so loadings can be rotated: q(q − 1)/2 of their numbers say nothing of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

Array = NDArray[Any]


def canonical(loadings: Array, noise: Array) -> Array:
    """Loadings (d, q) rotated so that ΛᵀΨ⁻¹Λ is diagonal and falls, the largest correlation of each factor positive.

    Lawley & Maxwell 1971, §4.2: the form in which maximum likelihood has one solution, up to signs, where no two
    numbers of the diagonal are equal. With equal noise (d,) factors are along principal axes.
    """
    values, vectors = np.linalg.eigh(loadings.T @ (loadings / noise[:, None]))
    turned = loadings @ vectors[:, np.argsort(-values, kind="stable")]
    shares = np.abs(turned) / np.sqrt((turned**2).sum(axis=1) + noise)[:, None]
    largest = turned[shares.argmax(axis=0), np.arange(turned.shape[1])]
    return np.asarray(turned * np.where(largest < 0, -1.0, 1.0))


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
