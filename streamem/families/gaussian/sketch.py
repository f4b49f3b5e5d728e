"""A bound on log-densities from a few directions: what rules out most components at a fraction of their cost.

For directions B (d, r) of full rank (x − m)ᵀP(x − m) ≥ (Bᵀ(x − m))ᵀ(BᵀΣB)⁻¹(Bᵀ(x − m)), the distance in the marginal
of Bᵀx (Cauchy & Schwarz). So a component whose constant minus half of that lies far below the density of another one
cannot matter to a row. The directions are those in which the means lie furthest apart beside the covariances (Fisher
1936, Rao 1948); with variances alone, features of that kind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import ndtr

from streamem.families.gaussian.covariance import COVARIANCES, Covariance

Array = NDArray[Any]

SHARES = (0.125, 0.25, 0.375, 0.5)
"""Numbers of directions that are tried, as shares of d."""

LEAST_DIRECTIONS = 4


class Sketch(NamedTuple):
    """Marginals of r directions.

    Attributes
    ----------
    structure : of their covariances, full or diagonal
    directions : (d, r) B, of anchored rows; (0, 0) where features are chosen instead
    chosen : (r,) features
    means : (K, r)
    covariances, factors : as the structure has them
    rivals : components of a row that the bound is expected to leave besides the best
    """

    structure: Covariance
    directions: Array
    chosen: Array
    means: Array
    covariances: Array
    factors: Array
    rivals: float

    def natural_parameters(self, constants: Array) -> Array:
        """Coefficients (K, F) of the features of Bᵀx̃ in the bound."""
        slopes = self.structure.precision_times(self.factors, self.means)
        constant = constants - 0.5 * np.einsum("kd,kd->k", slopes, self.means)
        return np.hstack([constant[:, None], slopes, self.structure.quadratic(self.factors)])


def sketches(
    means: Array, covariances: Array, constants: Array, width: float, most_rivals: float = np.inf
) -> list[Sketch]:
    """Sketches of several sizes; all components count alike.

    Parameters
    ----------
    means : (K, d) anchored
    covariances : (K, d, d) or (K, d)
    constants : (K,) log-densities at the means
    width : nats below the best of a row beyond which a component does not matter
    most_rivals : where a sketch leaves more, narrower ones are not judged, which leave more still
    """
    d = means.shape[1]
    order = discriminants(means, covariances) if covariances.ndim == 3 else telling_features(means, covariances)
    sizes = sorted({max(LEAST_DIRECTIONS, 4 * round(share * d / 4)) for share in SHARES})
    sizes = [r for r in sizes if r < d]
    if not sizes:
        return []
    widest, found = _sketch(order[..., : sizes[-1]], means, covariances), []
    for r in reversed(sizes):
        found.append(_judged(_narrowed(widest, r), constants, d, width))
        if found[-1].rivals > most_rivals:
            break
    return found[::-1]


def discriminants(means: Array, covariances: Array) -> Array:
    """Directions (d, d), those in which means lie furthest apart first, each with a variance of 1 within components."""
    apart = means - means.mean(axis=0)
    _, vectors = eigh(apart.T @ apart, covariances.sum(axis=0))
    return np.ascontiguousarray(vectors[:, ::-1]) * np.sqrt(len(means))


def telling_features(means: Array, variances: Array) -> Array:
    """Features (d,), those in which means lie furthest apart first."""
    ratio = means.var(axis=0) / variances.mean(axis=0)
    return np.argsort(-ratio, kind="stable")


def _sketch(order: Array, means: Array, covariances: Array) -> Sketch:
    if order.ndim == 2:
        structure, directions, chosen = COVARIANCES["full"], np.ascontiguousarray(order), np.empty(0, np.int64)
        centres, marginal = means @ directions, directions.T @ covariances @ directions
    else:
        structure, directions, chosen = COVARIANCES["diag"], np.empty((0, 0)), np.ascontiguousarray(order)
        centres, marginal = means[:, chosen], covariances[:, chosen]
    return Sketch(structure, directions, chosen, centres, marginal, structure.precisions_cholesky(marginal), np.nan)


def _narrowed(sketch: Sketch, r: int) -> Sketch:
    """The first r directions: leading blocks, also of the factors, since the inverse of a triangle has that of its."""
    kept = np.s_[:, :r, :r] if sketch.covariances.ndim == 3 else np.s_[:, :r]
    return sketch._replace(
        directions=np.ascontiguousarray(sketch.directions[:, :r]),
        chosen=sketch.chosen[:r],
        means=np.ascontiguousarray(sketch.means[:, :r]),
        covariances=np.ascontiguousarray(sketch.covariances[kept]),
        factors=np.ascontiguousarray(sketch.factors[kept]),
    )


def _judged(sketch: Sketch, constants: Array, d: int, width: float) -> Sketch:
    rivals = _rivals(sketch.structure, sketch.means, sketch.covariances, sketch.factors, constants, d, width)
    return sketch._replace(rivals=rivals)


def _rivals(
    structure: Covariance,
    means: Array,
    covariances: Array,
    factors: Array,
    constants: Array,
    d: int,
    width: float,
) -> float:
    """How many other components a row's bound is expected to leave.

    A row of component j has an exact log-density of constant_j − d/2 in the mean, with a variance of d/2; its distance
    from k in the sketch has the mean tr(P_k Σ_j) + δᵀP_kδ, and about the variance of r equal eigenvalues.
    """
    k, r = means.shape
    precisions = structure.precisions(factors)
    spread = covariances.reshape(k, -1) @ precisions.reshape(k, -1).T  # (j, k)
    slopes = structure.precision_times(factors, means)
    own = np.einsum("kr,kr->k", means, slopes)
    pairs = means[:, :, None] * means[:, None, :] if precisions.ndim == 3 else means**2
    squares = pairs.reshape(k, -1) @ precisions.reshape(k, -1).T
    apart = np.maximum(squares - 2.0 * means @ slopes.T + own, 0.0)
    gap = (constants - 0.5 * d)[:, None] - (constants[None, :] - 0.5 * (spread + apart)) - width
    survives = ndtr(-gap / np.sqrt(0.5 * d + 0.5 * spread**2 / r + spread / r * apart))
    return float((survives.sum() - np.trace(survives)) / k)
