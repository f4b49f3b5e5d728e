"""A Gaussian chain as one normal distribution of all its steps: slow, and without any recursion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Joint:
    """States (n, k), their covariances, values, and log-likelihood of one sequence given what was observed of it.

    `across` are covariances of each state but the first with the one before; `values` and `of_values` means and second
    moments of y, `with_states` E[y xᵀ].
    """

    means: Array
    covariances: Array
    across: Array
    values: Array
    of_values: Array
    with_states: Array
    log_likelihood: float


def chain_params(rng: np.random.Generator, k: int, d: int, full: bool = True) -> Params:
    """Matrices of a stable chain, of which the first state has no noise."""
    q = np.cov(rng.normal(size=(k, 3 * k)), ddof=0).reshape(k, k)
    q[0], q[:, 0] = 0.0, 0.0
    r = np.cov(rng.normal(size=(d, 3 * d)), ddof=0).reshape(d, d)
    a = rng.normal(size=(k, k))
    return Params(
        transition_matrix=0.9 * a / np.abs(np.linalg.eigvals(a)).max(),
        transition_covariance=q,
        observation_matrix=rng.normal(size=(d, k)),
        observation_covariance=r if full else np.diagonal(r).copy(),
        observation_offset=rng.normal(size=d),
        initial_mean=rng.normal(size=k),
        initial_covariance=np.cov(rng.normal(size=(k, 3 * k)), ddof=0).reshape(k, k),
    )


def framed(components: Params) -> Params:
    """Parameters of the model, about zero."""
    d, k = components.observation_matrix.shape
    return Params(components=components, anchor=np.zeros(d), origin=np.zeros(k), scale=np.ones(d))


def joint(own: Params, y: Array) -> Joint:
    """The chain given values y (n, d), of which NaN were not observed."""
    a, c, (n, d) = np.asarray(own.transition_matrix), np.asarray(own.observation_matrix), y.shape
    k, noise = len(a), np.asarray(own.observation_covariance)
    noise = np.diag(noise) if noise.ndim == 1 else noise
    mean, spread = np.zeros((n, k)), np.zeros((n, k, n, k))
    mean[0], spread[0, :, 0] = own.initial_mean, own.initial_covariance
    for t in range(1, n):
        mean[t] = a @ mean[t - 1]
        spread[t, :, t] = a @ spread[t - 1, :, t - 1] @ a.T + own.transition_covariance
    for t in range(n):
        for later in range(t + 1, n):
            spread[later, :, t] = a @ spread[later - 1, :, t]
            spread[t, :, later] = spread[later, :, t].T
    flat = spread.reshape(n * k, n * k)
    see = np.kron(np.eye(n), c)
    of_y = see @ flat @ see.T + np.kron(np.eye(n), noise)
    expected, seen = see @ mean.ravel() + np.tile(own.observation_offset, n), ~np.isnan(y.ravel())
    known, far = of_y[np.ix_(seen, seen)], y.ravel()[seen] - expected[seen]
    volume = float(np.linalg.slogdet(2.0 * np.pi * known)[1])
    reached = -0.5 * (float(far @ np.linalg.solve(known, far)) + volume)
    both = np.block([[flat, flat @ see.T], [see @ flat, of_y]])
    told = np.concatenate([np.zeros(n * k, dtype=bool), seen])
    gain = np.linalg.solve(known, both[told]).T
    found, left = np.concatenate([mean.ravel(), expected]) + gain @ far, both - gain @ both[told]
    states, values = found[: n * k].reshape(n, k), found[n * k :].reshape(n, d)
    own_x, own_y = left[: n * k, : n * k].reshape(n, k, n, k), left[n * k :, n * k :].reshape(n, d, n, d)
    crossed = left[n * k :, : n * k].reshape(n, d, n, k)
    steps = range(n)
    return Joint(
        states,
        np.array([own_x[t, :, t] for t in steps]),
        np.array([own_x[t, :, t - 1] for t in range(1, n)]),
        values,
        np.array([own_y[t, :, t] + np.outer(values[t], values[t]) for t in steps]),
        np.array([crossed[t, :, t] + np.outer(values[t], states[t]) for t in steps]),
        reached,
    )
