"""Covariances as hmmlearn shows and takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers

Array = NDArray[Any]
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def covariances_shape(covariance_type: str, k: int, d: int) -> tuple[int, ...]:
    """Shape of k covariances."""
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]


def full_covariances(own: Array, covariance_type: str, k: int, d: int) -> Array:
    """(k, d, d) from the shape of the covariance type.

    Raises
    ------
    ParameterError : another shape, as for means of another width
    """
    shape = covariances_shape(covariance_type, k, d)
    if np.shape(own) != shape:
        raise ParameterError(
            f"covars_ has shape {np.shape(own)}, and means_ ({k}, {d}); {covariance_type} needs {shape}"
        )
    if covariance_type == "full":
        return np.array(own)
    if covariance_type == "tied":
        return np.repeat(own[None], k, axis=0)
    variances = own if covariance_type == "diag" else np.repeat(np.asarray(own)[:, None], d, axis=1)
    full = np.zeros((k, d, d))
    full[:, np.arange(d), np.arange(d)] = variances
    return full


def own_covariances(covars: ArrayLike, covariance_type: str, k: int) -> Array:
    """In the shape of the covariance type, from that shape or from full matrices (k, d, d).

    Raises
    ------
    ParameterError : another shape, not symmetric and positive definite, or full matrices that are not of the type
    """
    if covariance_type not in COVARIANCE_TYPES:
        raise ParameterError(f"covariance_type is {covariance_type!r}; it must be one of {sorted(COVARIANCE_TYPES)}")
    array = np.array(numbers(covars, "covars_"))
    if covariance_type == "full" or array.ndim < 3:
        own = _reduced(array) if covariance_type == "spherical" and array.ndim == 2 else array
    else:
        own = _of_type(array, covariance_type)
    _require_covariances(own, covariance_type, k)
    return own


def _reduced(array: Array) -> Array:
    """One variance a state, from one for every feature."""
    if array.size and not (array == array[:, :1]).all():
        raise ParameterError("covars_ of a spherical model need one variance a state, the same for all features")
    return array[:, 0]


def _of_type(array: Array, covariance_type: str) -> Array:
    if covariance_type == "tied":
        if not (array == array[0]).all():
            raise ParameterError("covars_ of a tied model need the same matrix for all states, or one (d, d)")
        return array[0]
    diagonal = np.diagonal(array, axis1=1, axis2=2)
    if not (array == diagonal[:, :, None] * np.eye(array.shape[-1])).all():
        raise ParameterError(f"covars_ of a {covariance_type} model need matrices that are zero off their diagonals")
    return np.array(diagonal) if covariance_type == "diag" else _reduced(diagonal)


def _require_covariances(own: Array, covariance_type: str, k: int) -> None:
    axes = {"full": 3, "tied": 2, "diag": 2, "spherical": 1}[covariance_type]
    square = covariance_type not in ("full", "tied") or own.ndim < 2 or own.shape[-1] == own.shape[-2]
    if own.ndim != axes or not square or (covariance_type != "tied" and len(own) != k):
        shape = {"full": f"({k}, d, d)", "tied": "(d, d)", "diag": f"({k}, d)", "spherical": f"({k},)"}
        raise ParameterError(
            f"covars_ has shape {own.shape}; {covariance_type} needs {shape[covariance_type]}, or full matrices "
            f"({k}, d, d)"
        )
    if not np.isfinite(own).all():
        raise ParameterError("covars_ holds values that are not finite")
    if covariance_type in ("diag", "spherical"):
        if not (own > 0).all():
            raise ParameterError(f"covars_ holds variances down to {own.min()}; they must be > 0")
        return
    for matrix in own.reshape(-1, *own.shape[-2:]):
        if not np.allclose(matrix, matrix.T) or not _is_positive(matrix):
            raise ParameterError("covars_ must hold symmetric, positive definite matrices")


def _is_positive(matrix: Array) -> bool:
    """Whether a matrix is positive definite, whatever the units of its columns (1e-12 beside 1e12)."""
    variances = np.diag(matrix)
    if not (variances > 0).all():
        return False
    deviations = np.sqrt(variances)
    return bool((np.linalg.eigvalsh(matrix / deviations[:, None] / deviations) > 0).all())
