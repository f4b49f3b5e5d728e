"""Products of features in NumPy: rows in their anchored frame, log-densities, and statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.diagonal_rows import DiagonalRows
from streamem.kernels.features.feature_sums import FeatureSums
from streamem.kernels.plain.steps import FINE, PlainSteps, implement
from streamem.kernels.tiling import Products

Array = NDArray[Any]

quietly = np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
"""As compiled code is: what is not finite is judged by whoever asked."""


@quietly
def load_anchored(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """(x − center) / scale of rows x (b, d) into out (d, b)."""
    _anchored(x, center, inverse_scale, out)


@quietly
def multiply_features(products: Products, z: Array, out: Array) -> None:
    """out (K, b) = η·T."""
    np.matmul(_natural(products), _features(products, z), out=out)


@quietly
def accumulate_posterior(
    posterior: Array, products: Products, z: Array, resp: Array, product: Array, sums: Array, filled: bool
) -> None:
    """Add statistics of a posterior (K, b)."""
    add_to_sums(_features(products, z), posterior, sums)


@quietly
def add_moments(
    x: Array, weight: Array, center: Array, unscale: Array, buffers: Array, product: Array, sums: Array
) -> None:
    """sums (d, d) float64 += Σ w x̃ x̃ᵀ over rows x (n, d); weight (n,) or (0,) for ones."""
    rows = ((x - center) * unscale).astype(product.dtype, copy=False)
    sums += (rows * weight[:, None] if weight.size else rows).T.astype(product.dtype, copy=False) @ rows


def _anchored(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    np.multiply((x - center).T, inverse_scale[:, None], out=out, casting="same_kind")


def _natural(products: Products) -> Array:
    """Natural parameters (K, F)."""
    panels, k, width = products.natural.shape
    natural = products.natural[0] if panels == 1 else products.natural.transpose(1, 0, 2).reshape(k, panels * width)
    return natural[:, : len(products.left)]


def _features(products: Products, z: Array) -> Array:
    """Features (F, b) of rows z."""
    if len(products.left) == len(z):  # what is summed is z itself
        return z
    found = z.take(products.left, axis=0)
    found *= z.take(products.right, axis=0)
    return found


def add_to_sums(features: Array, posterior: Array, sums: Array) -> None:
    """sums (panels, features of a panel, K) += features (F, b) of a posterior (K, b)."""
    sums.reshape(-1, len(posterior))[: len(features)] += features @ posterior.T


# --- the steps of passes ----------------------------------------------------------------------------------------------


def load_block(products: Products, x: Array) -> Array:
    """z (rows of z, b) of rows x (b, d): 1, x̃ and where it is wanted |x̃|²."""
    d, z = x.shape[1], np.empty((products.z_rows, len(x)), dtype=products.natural.dtype)
    z[0] = 1.0
    _anchored(x, products.center, products.unscale, z[1 : 1 + d])
    if products.z_rows > 1 + d:
        np.einsum("db,db->b", z[1 : 1 + d], z[1 : 1 + d], out=z[-1])
    return z


def load_features(products: Products, x: Array) -> Array:
    """Features (F, b) of rows x (b, d)."""
    return _features(products, load_block(products, x))


def scores_of(products: Products, features: Array) -> Array:
    """Log-densities (K, b)."""
    return np.asarray(_natural(products) @ features)


def add_features(own: FeatureSums, features: Array, posterior: Array) -> None:
    """Add the statistics of features (F, b) weighted by a posterior (K, b)."""
    add_to_sums(features, posterior, own.sums)


implement(
    FeatureSums,
    PlainSteps(
        load=lambda own, x: (FINE, load_features(own.products, x)),
        scores=lambda own, features: scores_of(own.products, features),
        add=add_features,
    ),
)


def _load_diagonal(own: DiagonalRows, x: Array) -> tuple[int, Array]:
    return FINE, ((x - own.center) * own.unscale).astype(own.coefficients.dtype, copy=False)


def _scores_diagonal(own: DiagonalRows, z: Array) -> Array:
    d = z.shape[1]
    return own.coefficients[0::2, :d] @ z.T + own.coefficients[1::2, :d] @ (z * z).T


def _add_diagonal(own: DiagonalRows, z: Array, posterior: Array) -> None:
    d = z.shape[1]
    own.totals[:, 0] += posterior.sum(axis=1)
    own.sums[0::2, :d] += posterior @ z
    own.sums[1::2, :d] += posterior @ (z * z)


implement(DiagonalRows, PlainSteps(_load_diagonal, _scores_diagonal, _add_diagonal))
