"""What passes over densities of heavy tails work with: squared distances of other steps, bent by a logarithm."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_sums import FeatureSums

Array = NDArray[Any]

LIGHTEST = 2.0**60
"""Degrees of freedom from which on a density is that of a Gaussian to the last bit."""


class Tails(NamedTuple):
    """log p_k = constant_k − power_k·log(1 + δ/ν_k), of a squared distance δ.

    Attributes
    ----------
    shifts : (K,) added to scores of other steps to make them −½δ
    slopes : (K,) −2/ν
    powers : (K,) ½(ν + d)
    constants : (K,) log-density where δ = 0, in nats
    tops : (K,) (ν + d)/ν, the precision of a row where δ = 0
    """

    shifts: Array
    slopes: Array
    powers: Array
    constants: Array
    tops: Array


def tails_of(dofs: Array, constants: Array, d: int, dtype: Any) -> Tails:
    """Coefficients in `dtype` of degrees of freedom (K,) and of log-densities at the centres (K,), in d features."""
    nu = np.minimum(dofs, LIGHTEST)
    values = np.zeros_like(nu), -2.0 / nu, 0.5 * (nu + d), constants, 1.0 + d / nu
    return Tails(*(np.ascontiguousarray(value, dtype=dtype) for value in values))


class HeavyTails(NamedTuple):
    """Steps of squared distances, and what makes heavy tails of them.

    Attributes
    ----------
    inner : the steps whose scores, with shifts, are −½δ, and whose statistics get r·u for r
    tails : the coefficients
    precisions, logs : (K · rows of a block,) buffers for u = (ν + d)/(ν + δ) and log(1 + δ/ν)
    ones : (rows of a block,)
    sums : (2, K) float64, Σ r and Σ r·log(1 + δ/ν)
    """

    inner: Any
    tails: Tails
    precisions: Array
    logs: Array
    ones: Array
    sums: Array


class CommonDistances(NamedTuple):
    """Squared distances under one precision P for all components: linear terms of each, and −½ x̃ᵀPx̃ of the row.

    Attributes
    ----------
    linear : products of [1, x̃]
    whitening : (d, d) Uᵀ
    whitened, weighted : (d · rows of a block,) buffers
    quadratic : (rows of a block,) buffer for −½ x̃ᵀPx̃
    product : (d, d) buffer
    moments : (d, d) float64, Σ_k Σ r_k·x̃x̃ᵀ
    """

    linear: FeatureSums
    whitening: Array
    whitened: Array
    weighted: Array
    quadratic: Array
    product: Array
    moments: Array
