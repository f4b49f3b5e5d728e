"""Standard errors of what moves a chain, driven transitions and durations, against forward recursions in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import nbinom, norm, poisson

from helpers.curvature import errors, gradient
from streamem import GaussianHMM, PoissonHMM

Array = NDArray[Any]

AGES, STEPS, MANY = 6, 25, 24
"""Ages of states, steps of a sequence, and sequences."""
LENGTHS = np.full(MANY, STEPS)


def close(found: Any, wanted: Any, rtol: float = 1e-4) -> None:
    np.testing.assert_allclose(found, wanted, rtol=rtol)


def forward(log_prob: Array, start: Array, moves: Array) -> Array:
    """(s,) log-likelihoods of sequences of densities (s, t, K); moves (…, t, K, K) or (K, K)."""
    moves = np.broadcast_to(moves, (*log_prob.shape[:2], *moves.shape[-2:]))
    alpha = start + log_prob[:, 0]
    for t in range(1, log_prob.shape[1]):
        alpha = np.logaddexp.reduce(alpha[:, :, None] + moves[:, t - 1], axis=1) + log_prob[:, t]
    return np.asarray(np.logaddexp.reduce(alpha, axis=1))


# --- transitions that a covariate drives -----------------------------------------------------------------------------


def driven_steps() -> Array:
    """Values, with a few that were not observed, and a covariate about 5 (MANY·STEPS, 2)."""
    rng = np.random.default_rng(3)
    u = rng.normal(5.0, 2.0, MANY * STEPS)
    states = np.zeros(len(u), dtype=int)
    for t in range(len(u)):
        odds = (-1.5 + 0.4 * (u[t - 1] - 5), 1.0 + 0.3 * (u[t - 1] - 5))[states[t - 1]]
        chance = 0.4 if t % STEPS == 0 else 1 / (1 + np.exp(-odds))
        states[t] = rng.random() < chance
    x = rng.normal(2.0 * states, np.where(states, 1.0, 0.7))
    x[rng.random(len(x)) < 0.05] = np.nan
    return np.column_stack([x, u])


def driven_likelihoods(x: Array) -> Callable[[Array], Array]:
    values, u = x[:, :1], x[:, 1].reshape(MANY, STEPS)

    def log_likelihoods(t: Array) -> Array:
        density = np.where(np.isnan(values), 0.0, norm.logpdf(values, t[5:7], np.sqrt(t[7:9])))
        odds = t[1:3] + t[3:5] * u[:, :, None]
        moves = np.stack([-np.logaddexp(0.0, odds), -np.logaddexp(0.0, -odds)], axis=-1)
        return forward(density.reshape(MANY, STEPS, 2), np.log([t[0], 1 - t[0]]), moves)

    return log_likelihoods


def driven_numbers(of: Any) -> list[float]:
    own = of["transition_intercept_"][:, 1], of["transition_coef_"][:, 1, 0]
    return [of["startprob_"][0], *own[0], *own[1], *np.ravel(of["means_"]), *np.ravel(of["covars_"])]


def test_transitions_that_a_covariate_drives() -> None:
    """By the information, by products of scores of sequences, and both; in chunks that cut sequences."""
    x, options = driven_steps(), {"transition_covariates": [1], "covariance_type": "diag", "random_state": 0}
    model = GaussianHMM(2, tol=1e-12, n_iter=3000, **options).fit(x, LENGTHS, algorithm="squarem")
    at, of = np.array(driven_numbers(vars(model))), driven_likelihoods(x)
    close(model.score(x, LENGTHS), of(at).sum(), 1e-10)
    found = model.standard_errors(x, LENGTHS)
    close(driven_numbers(found), errors(lambda t: float(of(t).sum()), at))
    scores = gradient(of, at).T
    products = scores.T @ scores
    close(driven_numbers(model.standard_errors(x, LENGTHS, method="opg")), np.sqrt(np.diag(np.linalg.inv(products))))
    sandwich = model.standard_errors(x, LENGTHS, method="sandwich")
    cut = GaussianHMM(2, chunk_bytes=400, **options)
    for name in ("startprob_", "transition_intercept_", "transition_coef_", "means_", "covars_"):
        setattr(cut, name, getattr(model, name))
    again = cut.standard_errors(x, LENGTHS, method="sandwich")
    close(driven_numbers(again), driven_numbers(sandwich), 1e-5)


# --- durations -------------------------------------------------------------------------------------------------------


def lasting_steps() -> Array:
    """Counts of states that last some steps (MANY·STEPS, 1)."""
    rng, states = np.random.default_rng(5), list[int]()
    for _ in range(MANY):
        own, state = list[int](), int(rng.random() < 0.4)
        while len(own) < STEPS:
            own += [state] * (1 + rng.negative_binomial(1.5, 0.4 - 0.1 * state))
            state = 1 - state
        states += own[:STEPS]
    return rng.poisson(np.array([2.0, 7.0])[states])[:, None].astype(float)


def lasting_likelihoods(x: Array, kind: str) -> Callable[[Array], Array]:
    """Of startprob, mean durations, rates and sizes: a chain of states and ages."""

    def log_likelihoods(t: Array) -> Array:
        ages, hazards = np.arange(1, AGES + 1), np.zeros((2, AGES))
        for k in range(2):
            excess = t[1 + k] - 1
            law = poisson(excess) if kind == "poisson" else nbinom(t[5 + k], t[5 + k] / (t[5 + k] + excess))
            hazards[k] = law.pmf(ages - 1) / law.sf(ages - 2)
        moves = np.zeros((2, AGES, 2, AGES))
        for k in range(2):
            moves[k, :, 1 - k, 0] = hazards[k]
            for age in range(AGES):
                moves[k, age, k, min(age + 1, AGES - 1)] += 1 - hazards[k, age]
        density = np.repeat(poisson.logpmf(x, t[3:5]), AGES, axis=1)
        start = np.zeros((2, AGES))
        start[:, 0] = t[0], 1 - t[0]
        with np.errstate(divide="ignore"):
            logs = np.log(start.ravel()), np.log(moves.reshape(2 * AGES, 2 * AGES))
        return forward(density.reshape(MANY, STEPS, -1), *logs)

    return log_likelihoods


def lasting_numbers(of: Any, kind: str) -> list[float]:
    sizes = [*of["duration_sizes_"]] if kind == "negative-binomial" else []
    return [of["startprob_"][0], *of["duration_means_"], *np.ravel(of["lambdas_"]), *sizes]


@pytest.mark.variations(1, 2)
@pytest.mark.parametrize("kind", ["negative-binomial", "poisson"])
def test_durations(kind: str) -> None:
    """By the information and by products of scores of sequences; in chunks that cut sequences."""
    x, options = lasting_steps(), {"durations": kind, "max_duration": AGES, "random_state": 0}
    model = PoissonHMM(2, tol=1e-12, n_iter=3000, **options).fit(x, LENGTHS, algorithm="squarem")
    at, of = np.array(lasting_numbers(vars(model), kind)), lasting_likelihoods(x, kind)
    close(model.score(x, LENGTHS), of(at).sum(), 1e-9)
    found = model.standard_errors(x, LENGTHS)
    close(lasting_numbers(found, kind), errors(lambda t: float(of(t).sum()), at))
    assert found["transmat_"].tolist() == [[0, 0], [0, 0]]
    scores = gradient(of, at).T
    products = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores)))
    close(lasting_numbers(model.standard_errors(x, LENGTHS, method="opg"), kind), products)
    cut = PoissonHMM(2, chunk_bytes=1000, **options)
    for name in ("startprob_", "transmat_", "duration_means_", "duration_sizes_", "lambdas_"):
        if hasattr(model, name):
            setattr(cut, name, getattr(model, name))
    again = cut.standard_errors(x, LENGTHS)
    close(lasting_numbers(again, kind), lasting_numbers(found, kind), 1e-5)
