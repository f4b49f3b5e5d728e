"""The four covariance structures of a Gaussian, in the anchored frame.

Shapes, with M the number of second moments kept: full M = d(d+1)/2 packed by rows of the upper triangle, tied the same
but one for all components, diag M = d, spherical M = 1 (the squared norm). Precision Cholesky factors U are upper
triangular with P = U Uᵀ, as scikit-learn has them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS
from streamem.families.gaussian.covariance_matrix import Full, Tied
from streamem.families.gaussian.covariance_variance import Diagonal, Spherical
from streamem.kernels.features.features import Features

Array = NDArray[Any]


class Covariance(Protocol):
    """One covariance structure."""

    shared: bool
    """Whether one covariance serves all components."""

    isotropic: bool
    """Whether the anchor must scale all features alike."""

    def __hash__(self) -> int:
        """Hash of the object: what follows from a structure and d is remembered."""

    def n_moments(self, d: int) -> int:
        """M, the number of second moments."""

    def features(self, d: int) -> Features:
        """[1, x̃, second moments] as products of pairs."""

    def weighted_moments(self, xt: Array, resp: Array, scratch: Array) -> Array:
        """Σ_b resp · moments (M,) of xt (d, b) and resp (b,) without the feature matrix; overwrites scratch (d, b)."""

    def shifted(self, moments: Array, first: Array, weight: Array, shift: Array) -> Array:
        """Second moments of x̃ + shift (K, d), of given second and first moments and weights of x̃."""

    def stretched(self, moments: Array, ratio: Array) -> Array:
        """Second moments of ratio · x̃, for ratio (d,)."""

    def estimate(self, weight: Array, means: Array, moments: Array, reg: Array) -> Array:
        """Maximum-likelihood covariances of given expected moments, plus reg (d,) on the diagonal."""

    def squares(self, weight: Array, moments: Array, d: int) -> Array:
        """Mean squares of x̃ (K, d), or of all components together (d,), or of all features (K,)."""

    def pooled(self, weight: Array, values: Array) -> Array:
        """Means of values (K, d) in that shape."""

    def size(self, covariances: Array, squares: Array | float, means: Array | float) -> Array:
        """How large values are of which covariances are differences: the mean squares of x̃, and those of the means."""

    def least(self, size: Array, eps: Array | float = EPS) -> Array:
        """The floor under covariances of that size, computed from sums with that unit of rounding."""

    def exceeds(self, covariances: Array, least: Array) -> NDArray[np.bool_]:
        """Which covariances, minus the `least`, are positive definite: (K,) or ()."""

    def lost(self, diagonal: Array, size: Array, eps: Array | float) -> Array:
        """tr(PEPE) for rounding errors E of one eps in covariances of that size, by the diagonal of P: (K,) or ()."""

    def precisions_cholesky(self, covariances: Array) -> Array:
        """U of every covariance."""

    def floor_and_factor(self, covariances: Array, least: Array) -> tuple[Array, Array, Array]:
        """Covariances raised to the floor, which components that changed (K,) or (), and U of what they are now.

        Clipping is the exact maximizer of the expected log-likelihood under Σ ⪰ diag(least), so EM stays monotone as
        long as the floor stays.

        Raises
        ------
        NumericalError : a covariance that is not finite
        """

    def quadratic(self, factor: Array) -> Array:
        """Coefficients (K, M) or (M,) of the moments in −½ x̃ᵀPx̃."""

    def whiten(self, factor: Array, component: int, difference: Array, out: Array) -> Array:
        """Uᵀ·difference (d, b) of one component, written to out."""

    def precision_times(self, factor: Array, means: Array) -> Array:
        """P·m, (K, d)."""

    def log_det(self, factor: Array, d: int) -> Array:
        """½ log |P|, (K,) or ()."""

    def precision_diagonal(self, factor: Array, d: int) -> Array:
        """Diagonal of P, (K, d) or (d,)."""

    def squared_precisions(self, factor: Array) -> Array:
        """P_ij² of every factor, or the squares of its diagonal."""

    def term_norms(self, squared_precisions: Array, size: Array) -> Array:
        """Root of the sum over i, j of (P_ij·size_i·size_j)², (K,), for size (K, d)."""

    def variances(self, covariances: Array, k: int, d: int) -> Array:
        """Variance of every component and feature (K, d), in any units."""

    def scaled(self, values: Array, scale: Array) -> Array:
        """Covariances under x = scale · x̃."""

    def scaled_cholesky(self, factor: Array, scale: Array) -> Array:
        """Factors U under x = scale · x̃."""

    def precisions(self, factor: Array) -> Array:
        """P of every factor."""

    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters of the covariances."""


COVARIANCES: dict[str, Covariance] = {
    "full": Full(),
    "tied": Tied(),
    "diag": Diagonal(),
    "spherical": Spherical(),
}
