"""Priors of emissions under hmmlearn's names: checked, and in the form that families take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.families.gaussian_prior import GaussianPrior

Array = NDArray[Any]


def prior_values(value: ArrayLike, name: str, shape: tuple[int, ...], least: float = -np.inf) -> Array:
    """A hyperparameter of a prior, in the shape in which it is used; a number serves all.

    Raises
    ------
    ParameterError : text, another shape, values that are not finite or below `least`
    """
    values = numbers(value, name)
    if not np.isfinite(values).all():
        raise ParameterError(f"{name} holds {values[~np.isfinite(values)].flat[0]}; finite numbers are needed")
    if (values < least).any():
        raise ParameterError(f"{name} has values down to {values.min()}; they must be >= {least:g}, which is no prior")
    if values.ndim == len(shape) + 1 and values.shape[-1] == 1:  # (K, 1), as hmmlearn takes numbers for each state
        values = values[..., 0]
    try:
        return np.array(np.broadcast_to(values, shape))
    except ValueError:
        raise ParameterError(f"{name} has shape {values.shape}; a number or {shape} is needed") from None


def scatter_values(value: ArrayLike, name: str, shape: tuple[int, ...], is_matrix: bool) -> Array:
    """Variances >= 0, or positive semidefinite matrices, of a prior.

    Raises
    ------
    ParameterError : as `prior_values`, and matrices that are none of the kind
    """
    if not is_matrix:
        return prior_values(value, name, shape, least=0.0)
    matrices = prior_values(value, name, shape)
    lowest, highest = np.linalg.eigvalsh(matrices)[..., 0], np.abs(matrices).max(axis=(-2, -1))
    if not np.array_equal(matrices, np.swapaxes(matrices, -1, -2)) or (lowest < -1e-12 * highest).any():
        raise ParameterError(
            f"{name} must hold symmetric, positive semidefinite matrices {shape[-2:]}; the smallest eigenvalue is "
            f"{lowest.min():.6g} (0 is no prior)"
        )
    return matrices


def covariances_shape(covariance_type: str, k: int, d: int) -> tuple[int, ...]:
    """That of k covariances."""
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]


def gaussian_prior(
    covariance_type: str,
    k: int,
    d: int,
    means_prior: ArrayLike,
    means_weight: ArrayLike,
    covars_prior: ArrayLike,
    covars_weight: ArrayLike,
) -> GaussianPrior:
    """The priors of `GaussianHMM`: of `covars_weight` 1 are taken off for variances, d for matrices, down to none."""
    matrix = covariance_type in ("full", "tied")
    weight = prior_values(covars_weight, "covars_weight", () if covariance_type == "tied" else (k,), least=0.0)
    return GaussianPrior(
        prior_values(means_prior, "means_prior", (k, d)),
        prior_values(means_weight, "means_weight", (k,), least=0.0),
        scatter_values(covars_prior, "covars_prior", covariances_shape(covariance_type, k, d), matrix),
        np.maximum(weight - (d if matrix else 1), 0.0),
    )
