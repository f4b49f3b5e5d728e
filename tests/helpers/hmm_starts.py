"""Sequences, and models to start from, for tests of the estimators of hidden Markov models."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

Array = NDArray[Any]
K, D = 3, 2
LENGTHS = [300, 1, 250, 49]


def chain(rng: np.random.Generator, k: int = K) -> tuple[Array, Array]:
    """Initial and transition probabilities."""
    return rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 2.0), size=k)


def gaussian_start(covariance_type: str, seed: int = 0) -> dict[str, Array]:
    """Attributes of a Gaussian model, covariances in the shape of their type."""
    rng = np.random.default_rng(seed)
    startprob, transmat = chain(rng)
    root = rng.normal(size=(K, D, D))
    full = root @ np.swapaxes(root, 1, 2) + np.eye(D)
    covars = {"full": full, "tied": full[0], "diag": rng.uniform(0.5, 2, (K, D)), "spherical": rng.uniform(0.5, 2, K)}
    means = rng.normal(size=(K, D)) * 2
    return {"startprob_": startprob, "transmat_": transmat, "means_": means, "covars_": covars[covariance_type]}


def with_attributes(model: Any, attributes: dict[str, Array]) -> Any:
    """The model with attributes set."""
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def rows(n: int = sum(LENGTHS), seed: int = 1) -> Array:
    """Steps of a Gaussian chain of three states that overlap."""
    from streamem import GaussianHMM

    model = with_attributes(GaussianHMM(K, "diag"), gaussian_start("diag"))
    return np.asarray(model.sample(n, random_state=seed)[0])


def fitted_quietly(model: Any, *arguments: Any, **options: Any) -> Any:
    """Fitted for exactly n_iter iterations, which it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*arguments, **options)
