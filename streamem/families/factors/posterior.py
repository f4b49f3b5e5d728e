"""What follows from the parameters of factor components: the posterior of the factors, without any matrix (d, d)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity

Array = NDArray[Any]


class Posterior(NamedTuple):
    """Distributions of z given x under each component, in the anchored frame: M = I + ΛᵀΨ⁻¹Λ = L·Lᵀ.

    Attributes
    ----------
    whitening : (K, d, q) Ψ⁻¹ΛL⁻ᵀ; u = whiteningᵀ(x̃ − m) has the posterior mean ẑ = L⁻ᵀu and |u|² = bᵀM⁻¹b
    unwhitening : (K, q, q) L⁻¹, so that ẑᵀ = uᵀL⁻¹
    covariance : (K, q, q) M⁻¹
    constants : (K,) log-density where x̃ = m, in nats
    """

    whitening: Array
    unwhitening: Array
    covariance: Array
    constants: Array


def noise_of(params: Params) -> Array:
    """Variances of the noise (K, d) in the anchored frame, whether of each feature or of all."""
    noise = np.asarray(params.noise)
    return noise if noise.ndim == 2 else np.repeat(noise[:, None], params.means.shape[1], axis=1)


def posterior_of(params: Params) -> Posterior:
    """The posterior of the factors at these parameters (Rubin & Thayer 1982; Woodbury's identity)."""
    return cached_by_identity(params.loadings, params.noise, "posterior of factors", lambda: _posterior(params))


def _posterior(params: Params) -> Posterior:
    loadings, noise = np.asarray(params.loadings), noise_of(params)
    k, d, q = loadings.shape
    scaled = loadings / noise[:, :, None]
    precision = np.eye(q) + np.swapaxes(loadings, 1, 2) @ scaled
    lower = np.linalg.cholesky(precision)
    unwhitening = np.linalg.solve(lower, np.broadcast_to(np.eye(q), (k, q, q)))
    log_det = np.log(noise).sum(axis=1) + 2.0 * np.log(np.einsum("kii->ki", lower)).sum(axis=1)
    constants = -0.5 * (d * np.log(2.0 * np.pi) + log_det) - np.log(params.scale).sum()
    return Posterior(
        scaled @ np.swapaxes(unwhitening, 1, 2),
        unwhitening,
        np.swapaxes(unwhitening, 1, 2) @ unwhitening,
        constants,
    )


def typical_terms(params: Params) -> Array:
    """(K,) how far the terms of a log-density exceed it where squares are summed: Σ_j (m_j² + Σ_jj)/ψ_j."""
    noise = noise_of(params)
    squares = np.asarray(params.means) ** 2 + (np.asarray(params.loadings) ** 2).sum(axis=2) + noise
    return np.asarray((squares / noise).sum(axis=1))
