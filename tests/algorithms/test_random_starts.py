"""From 100 random starts of each family, accelerated EM ends in no error that plain EM does not end in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import (
    GMMHMM,
    AutoregressiveGaussian,
    Beta,
    CategoricalHMM,
    Exponential,
    Gamma,
    Gaussian,
    GaussianHMM,
    GaussianMixture,
    Geometric,
    GroupedMixture,
    LatentClass,
    LogNormal,
    Mixture,
    Multinomial,
    NegativeBinomial,
    Poisson,
    PoissonHMM,
    Product,
    StreamemError,
    StudentTMixture,
    VonMises,
    VonMisesFisher,
    Weibull,
)

Array = NDArray[Any]
N, K, STARTS = 150, 3, 100
RUN: dict[str, Any] = {"tol": 1e-7, "stopping": "aitken"}
rng = np.random.default_rng(0)
LABELS = rng.integers(K, size=N)
NUMBERS = rng.normal(size=(N, 2)) + 3.0 * LABELS[:, None] * [1.0, -1.0]
POSITIVE = rng.gamma(1.0 + 4.0 * LABELS, size=(2, N)).T + 1e-3
SHARES = np.clip(rng.beta(1.0 + 4.0 * LABELS, 4.0, size=(2, N)).T, 1e-6, 1 - 1e-6)
COUNTS = rng.poisson(1.0 + 6.0 * LABELS, size=(2, N)).T
ANGLES = np.angle(np.exp(1j * (2.0 * LABELS + 0.5 * rng.normal(size=N))))[:, None]
DIRECTIONS = NUMBERS / np.linalg.norm(NUMBERS, axis=1)[:, None]
BAGS = rng.multinomial(10, [0.1, 0.3, 0.6], size=N)
CODES = (rng.random((N, 5)) < np.array([0.2, 0.5, 0.9])[LABELS][:, None]).astype(np.int64)
MIXED = np.column_stack([NUMBERS[:, 0], COUNTS[:, 0]])
TWINS = np.repeat(NUMBERS[:15], 10, axis=0)


def gaps(x: Array) -> Array:
    return np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.nan, x)


def mixture(family: Any, **settings: Any) -> Callable[[int], Any]:
    return lambda seed: Mixture(family, K, init_params="random", random_state=seed, max_iter=60, **RUN, **settings)


def gaussians(covariance_type: str, **settings: Any) -> Callable[[int], Any]:
    own = {"init_params": "random", "max_iter": 60, **RUN, **settings}
    return lambda seed: GaussianMixture(K, covariance_type=covariance_type, random_state=seed, **own)


def chain(kind: Any, **settings: Any) -> Callable[[int], Any]:
    return lambda seed: kind(K, start="random", random_state=seed, n_iter=60, **RUN, **settings)


CASES: dict[str, tuple[Callable[[int], Any], Array, dict[str, Any]]] = {
    "full": (gaussians("full"), NUMBERS, {}),
    "full, no regularization": (gaussians("full", reg_covar=0.0), NUMBERS, {}),
    "full, equal rows": (gaussians("full", init_params="random_from_data"), TWINS, {}),
    "tied": (gaussians("tied"), NUMBERS, {}),
    "diag": (gaussians("diag"), NUMBERS, {}),
    "spherical": (gaussians("spherical"), NUMBERS, {}),
    "noise": (gaussians("full", noise=True), NUMBERS, {}),
    "full, gaps": (gaussians("full", missing="integrate"), gaps(NUMBERS), {}),
    "student": (
        lambda seed: StudentTMixture(K, init_params="random", random_state=seed, max_iter=60, **RUN),
        NUMBERS,
        {},
    ),
    "autoregressive": (mixture(AutoregressiveGaussian()), NUMBERS, {}),
    "poisson": (mixture(Poisson()), COUNTS, {}),
    "poisson, gaps": (mixture(Poisson(), missing="integrate"), gaps(COUNTS.astype(float)), {}),
    "negative binomial": (mixture(NegativeBinomial()), COUNTS, {}),
    "geometric": (mixture(Geometric()), COUNTS + 1, {}),
    "multinomial": (mixture(Multinomial()), BAGS, {}),
    "bernoulli": (mixture("bernoulli"), CODES, {}),
    "gamma": (mixture(Gamma()), POSITIVE, {}),
    "exponential": (mixture(Exponential()), POSITIVE, {}),
    "log-normal": (mixture(LogNormal()), POSITIVE, {}),
    "weibull": (mixture(Weibull()), POSITIVE, {}),
    "beta": (mixture(Beta()), SHARES, {}),
    "von mises": (mixture(VonMises()), ANGLES, {}),
    "von mises–fisher": (mixture(VonMisesFisher()), DIRECTIONS, {}),
    "mixed columns": (mixture(Product({0: Gaussian(), 1: Poisson()})), MIXED, {}),
    "latent classes": (
        lambda seed: LatentClass(K, n_init=1, init_params="random", random_state=seed, max_iter=60, **RUN),
        CODES,
        {},
    ),
    "latent classes, gaps": (
        lambda seed: LatentClass(
            K, n_init=1, init_params="random", random_state=seed, max_iter=60, missing="integrate", **RUN
        ),
        gaps(CODES.astype(float)),
        {},
    ),
    "Gaussian chain": (chain(GaussianHMM), NUMBERS, {"lengths": [30] * 5}),
    "chain of mixtures": (
        lambda seed: GMMHMM(2, 2, random_state=seed, n_iter=60, **RUN),
        NUMBERS,
        {"lengths": [30] * 5},
    ),
    "Poisson chain": (chain(PoissonHMM), COUNTS, {"lengths": [30] * 5}),
    "categorical chain": (chain(CategoricalHMM), LABELS[:, None], {"lengths": [30] * 5}),
    "groups": (
        lambda seed: GroupedMixture(Gaussian("diag"), K, init_params="random", random_state=seed, max_iter=60, **RUN),
        NUMBERS,
        {"lengths": [3] * 50},
    ),
}


def error(make: Callable[[int], Any], x: Array, arguments: dict[str, Any], seed: int, algorithm: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = make(seed).fit(x, algorithm=algorithm, **arguments)
        except StreamemError as failed:
            return type(failed).__name__
    assert np.isfinite(model.lower_bound_)
    return None


def failures(name: str, starts: range) -> list[str]:
    """Starts from which an accelerated run fails and plain EM does not; "auto" of so few rows is "anderson"."""
    make, x, arguments = CASES[name]
    found, ended = [], 0
    for seed in starts:
        for algorithm in ("squarem", "anderson"):
            told = error(make, x, arguments, seed, algorithm)
            ended += told is None
            if told is not None and error(make, x, arguments, seed, "batch") is None:
                found.append(f"{algorithm} from start {seed}: {told}")
    assert ended, "no run ended without an error, so that nothing was compared"
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_no_error_that_plain_em_has_not(name: str) -> None:
    assert failures(name, range(STARTS)) == []


@pytest.mark.variations(1, 6)
@pytest.mark.parametrize("name", ["full, no regularization", "latent classes, gaps"])
def test_a_few_starts(name: str) -> None:
    assert failures(name, range(2)) == []
