"""Checks of starting values that the user gives, in scikit-learn's words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers

Array = NDArray[Any]


def _shaped(value: ArrayLike, shape: tuple[int, ...], what: str) -> Array:
    array = numbers(value, f"The parameter '{what}'")
    if array.shape != shape:
        raise ParameterError(f"The parameter '{what}' should have the shape of {shape}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise ParameterError(f"The parameter '{what}' holds values that are not finite")
    return array


def check_weights(weights: ArrayLike | None, k: int) -> None:
    """(K,), within [0, 1], summing to 1."""
    if weights is None:
        return
    array = _shaped(weights, (k,), "weights")
    if (array < 0).any() or (array > 1).any():
        raise ParameterError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{np.min(array):.5f}, min value {np.max(array):.5f}"
        )
    if not np.isclose(array.sum(), 1.0, rtol=0, atol=1e-6):
        raise ParameterError(f"The parameter 'weights' should be normalized, but got sum(weights) = {array.sum():.5f}")


def check_means(means: ArrayLike | None, k: int, d: int) -> None:
    """(K, d)."""
    if means is not None:
        _shaped(means, (k, d), "means")


def check_precisions(precisions: ArrayLike | None, covariance_type: str, k: int, d: int) -> None:
    """Positive, or symmetric and positive-definite, in the shape of the covariance type."""
    if precisions is None:
        return
    shapes = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
    array = _shaped(precisions, shapes[covariance_type], f"{covariance_type} precision")
    if covariance_type in ("diag", "spherical"):
        if (array <= 0).any():
            raise ParameterError(f"The parameter '{covariance_type} precision' should be positive")
        return
    for matrix in array.reshape(-1, d, d):
        if not np.allclose(matrix, matrix.T) or (np.linalg.eigvalsh(matrix) <= 0).any():
            raise ParameterError(f"The parameter '{covariance_type} precision' should be symmetric, positive-definite")


def precisions_to_covariances(covariance_type: str, precisions: Array) -> Array:
    """Inverse of precisions in the shape of the covariance type."""
    if covariance_type in ("diag", "spherical"):
        return 1.0 / precisions
    return np.asarray(np.linalg.inv(precisions))
