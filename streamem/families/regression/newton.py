"""One Newton step that cannot lower the likelihood of a regression, made of sums over rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS

Array = NDArray[Any]


def damped_step(information: Array, working: Array, coefficients: Array, reach: Array) -> Array:
    """Coefficients (K, C, 1 + p) after one step from `coefficients` of the same shape.

    The step δ = I⁻¹ g is shortened by log(1 + M)/M, where M is the most by which it moves the differences of linear
    predictors of any row. Third derivatives of the log-likelihoods of canonical links are at most M times second ones,
    so that along the step the log-likelihood gains at least gᵀδ·(s − (exp(sM) − 1 − sM)/M²) (Bach 2010, proposition 1,
    for logistic regression; of Poisson responses it is the power series of exp), which is largest there, and positive.

    Parameters
    ----------
    information : (K, q, q) expected second derivatives, q = C·(1 + p), at most a constant times smaller than exact ones
    working : (K, q) g + I·coefficients, as in iteratively reweighted least squares (Nelder & Wedderburn 1972)
    reach : (2, p) smallest and largest covariates
    """
    k, predictors, width = coefficients.shape
    flat = coefficients.reshape(k, -1)
    slope = working - np.einsum("kij,kj->ki", information, flat)
    step = _solved(information, slope).reshape(k, predictors, width)
    moved = most_moved(step, reach)
    factor = np.where(moved > 1e-8, np.log1p(moved) / np.where(moved > 0, moved, 1.0), 1.0 - moved / 2)
    return np.asarray(coefficients + factor[:, None, None] * step)


def most_moved(step: Array, reach: Array) -> Array:
    """(K,) the most by which steps (K, C, 1 + p) move the difference of two linear predictors of a row within `reach`.

    The predictor of a baseline, which stays 0, is one of them.
    """
    k, predictors, width = step.shape
    every = np.concatenate([np.zeros((k, 1, width)), step], axis=1)
    most = np.zeros(k)
    for i in range(predictors):
        change = every[:, i + 1 :] - every[:, i : i + 1]
        ends = change[:, :, None, 1:] * reach
        high = change[:, :, 0] + ends.max(axis=2).sum(axis=-1)
        low = change[:, :, 0] + ends.min(axis=2).sum(axis=-1)
        most = np.maximum(most, np.maximum(np.abs(high), np.abs(low)).max(axis=1))
    return most


def _solved(information: Array, slope: Array) -> Array:
    """I⁻¹ g (K, q), without directions that hold no digits."""
    typical = np.einsum("kii->ki", information)
    unit = np.exp2(-np.round(np.log2(np.where(typical > 0, typical, 1.0)) / 2))
    values, vectors = np.linalg.eigh(information * unit[:, :, None] * unit[:, None, :])
    told = values > 8 * EPS * values.shape[1] * values[:, -1:]
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=told)
    along = np.einsum("kij,ki->kj", vectors, slope * unit)
    return np.asarray(np.einsum("kij,kj->ki", vectors, along * inverse) * unit)
