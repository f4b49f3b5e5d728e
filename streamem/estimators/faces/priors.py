"""Priors of emissions under hmmlearn's names: checked, and in the form that families take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.covariances import covariances_shape
from streamem.families.gaussian.prior import GaussianPrior

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
        raise ParameterError(
            f"{name} has values down to {values.min()}; they must be >= {least:g} ({least:g} is no prior)"
        )
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
    count = np.maximum(weight - (d if matrix else 1), 0.0)
    return GaussianPrior(
        prior_values(means_prior, "means_prior", (k, d)),
        prior_values(means_weight, "means_weight", (k,), least=0.0),
        scatter_values(covars_prior, "covars_prior", covariances_shape(covariance_type, k, d), matrix),
        _as_counts(count, covariance_type, d),
    )


def _as_counts(count: Array, covariance_type: str, d: int) -> Array:
    """Numbers (K,) in the shape of a `GaussianPrior`."""
    if covariance_type == "diag":
        return np.repeat(count[:, None], d, axis=1)
    return count[:, None, None] if covariance_type == "full" else count


def mixture_prior(
    covariance_type: str,
    shape: tuple[int, int, int],
    means_prior: ArrayLike,
    means_weight: ArrayLike,
    covars_prior: ArrayLike | None,
    covars_weight: ArrayLike | None,
) -> GaussianPrior:
    """The priors of `GMMHMM`, shape (k, m, d), for k·m Gaussians; those that share a covariance share its prior evenly.

    There, hmmlearn's `covars_prior` and `covars_weight` are α and β of variances, but Ψ and ν of matrices.
    """
    k, m, d = shape
    means = prior_values(means_prior, "means_prior", shape).reshape(k * m, d)
    pull = prior_values(means_weight, "means_weight", (k, m), least=0.0).reshape(k * m)
    if covariance_type in ("diag", "spherical"):
        own, features = ((k, m, d), 1) if covariance_type == "diag" else ((k, m), d)
        return GaussianPrior(means, pull, *_of_variances(own, features, covars_prior, covars_weight))
    groups, together = ((k, m), 1) if covariance_type == "full" else ((k,), m)
    return GaussianPrior(means, pull, *_of_matrices(groups, together, d, covars_prior, covars_weight))


def _of_variances(
    shape: tuple[int, ...], features: int, alpha: ArrayLike | None, beta: ArrayLike | None
) -> tuple[Array, Array]:
    """Scatter and count of inverse gamma priors, each of the variance of so many features."""
    least = -(features + 2.0) / 2.0
    alphas = prior_values(_or(alpha, least), "covars_prior", shape, least)
    betas = prior_values(_or(beta, 0.0), "covars_weight", shape, least=0.0)
    flat = (-1, *shape[2:])
    return (2.0 * betas / features).reshape(flat), (2.0 * (alphas - least) / features).reshape(flat)


def _of_matrices(
    groups: tuple[int, ...], together: int, d: int, psi: ArrayLike | None, nu: ArrayLike | None
) -> tuple[Array, Array]:
    """Scatter and count of inverse Wishart priors, divided among the Gaussians that share a matrix."""
    least = -(together + d + 1.0)
    scatter = scatter_values(_or(psi, 0.0), "covars_prior", (*groups, d, d), is_matrix=True)
    count = prior_values(_or(nu, least), "covars_weight", groups, least) - least
    matrices, counts = scatter.reshape(-1, d, d) / together, count.reshape(-1, 1, 1) / together
    return np.repeat(matrices, together, axis=0), np.repeat(counts, together, axis=0)


def _or(value: ArrayLike | None, none: float) -> ArrayLike:
    return none if value is None else value
