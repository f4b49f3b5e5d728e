"""Derivatives of Gaussian log-densities by means and covariance matrices.

With y = x − m, A = Σ⁻¹ and u = Ay, ∂/∂m = u, ∂/∂Σ = ½(uuᵀ − A), and of sums over rows with N = Σw,
S = Σ w yyᵀ and P = ASA the second derivatives follow from ∂A = −A ∂Σ A (Magnus & Neudecker 2019, §8.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.slopes import Slopes

Array = NDArray[Any]


class GaussianSlopes(Slopes):
    """Derivatives at components with these `means` (K, d) and inverse covariances `precisions` (K or 1, d, d).

    All in units of the data; rows are centered at `center` (d,) first, the means are about it, so that rows that lie
    far from the origin lose no digits.
    """

    def __init__(self, center: Array, means: Array, precisions: Array) -> None:
        self._center, self._means, self._precisions = center, means, precisions

    def _of(self, component: int, x: Array) -> tuple[Array, Array]:
        precision = self._precisions[component if len(self._precisions) > 1 else 0]
        return x - self._center - self._means[component], precision

    def first(self, component: int, x: Array) -> Mapping[str, Array]:
        """First derivatives by means, and by covariances."""
        y, precision = self._of(component, x)
        i, j = np.tril_indices(x.shape[1])
        u, both = y @ precision, np.where(i == j, 0.5, 1.0)
        return {"means": u, "covariances": both * (u[:, i] * u[:, j] - precision[i, j])}

    def second(self, component: int, x: Array, weight: Array) -> Mapping[tuple[str, str], Array]:
        """Second derivatives by means twice, by means and covariances, by covariances twice."""
        y, precision = self._of(component, x)
        i, j = np.tril_indices(x.shape[1])
        u, total, both = y @ precision, weight.sum(), np.where(i == j, 0.5, 1.0)
        drift, spread = weight @ u, (u * weight[:, None]).T @ u
        mixed = -both * (precision[:, i] * drift[j] + precision[:, j] * drift[i])
        return {
            ("means", "means"): -total * precision,
            ("means", "covariances"): mixed,
            ("covariances", "covariances"): both[:, None] * both * _twice(precision, spread, total, i, j),
        }


def _twice(a: Array, p: Array, total: Any, i: Array, j: Array) -> Array:
    """(q, q) Σ of A_jk·½(N·A − P)_li − ½P_jk·A_li over both orders of (i, j) and of (k, l)."""
    inner, out = 0.5 * (total * a - p), np.zeros((len(i), len(i)))
    for one, two in ((i, j), (j, i)):
        for k, l in ((i, j), (j, i)):  # noqa: E741
            out += a[np.ix_(two, k)] * inner[np.ix_(one, l)]
            out -= 0.5 * p[np.ix_(two, k)] * a[np.ix_(one, l)]
    return out
