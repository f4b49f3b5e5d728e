"""The M-step of a linear Gaussian chain: regressions on expected moments, and statistics that have a maximum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.models.gaussian_messages import symmetric
from streamem.models.gaussian_setup import Setup

Array = NDArray[Any]

FLOOR = 2.0**-40
"""Least noise of an observation, in shares of the variance of the sample."""
HALVINGS = 30
"""Of the way to extrapolated statistics, until an M-step can take them."""


def maximized(setup: Setup, stats: Stats, previous: Params) -> Params:
    """Arrays of a chain by `LETTERS`: what `setup` updates, at the largest expected log-likelihood; the rest stays."""
    updates, found = setup.updates, dict(previous.components.items())
    if float(stats.moves) > 0:
        if "transition_matrix" in updates:
            found["transition_matrix"] = _divided(stats.across, stats.before)
        if "transition_covariance" in updates:
            noise = _state_noise(stats, found["transition_matrix"])
            found["transition_covariance"] = _possible(_diagonal(noise, setup.state_noise))
    if float(stats.seen) > 0:
        found |= _regressed(stats, found, updates)
        if "observation_covariance" in updates:
            noise = _observation_noise(stats, found)
            found["observation_covariance"] = _floored(noise, previous.scale)
    if float(stats.begun) > 0:
        mean = stats.first / stats.begun
        if "initial_mean" in updates:
            found["initial_mean"] = mean
        if "initial_covariance" in updates:
            about = mean - found["initial_mean"]
            spread = stats.first_products / stats.begun - np.outer(mean, mean) + np.outer(about, about)
            found["initial_covariance"] = _possible(symmetric(spread))
    return Params(**found)


def towards(stats: Stats, valid: Stats) -> Stats:
    """Statistics as far from valid ones towards extrapolated ones as second moments stay such."""
    step = stats - valid
    for halving in range(HALVINGS):
        tried = valid + 2.0**-halving * step
        if _are_moments(tried):
            return tried
    return valid


def _diagonal(noise: Array, kind: str) -> Array:
    return np.diag(np.diagonal(noise)) if kind == "diag" else noise


def _divided(across: Array, products: Array) -> Array:
    """across·products⁻¹, where products (second moments) may be singular."""
    size = np.sqrt(np.maximum(np.diagonal(products), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(products / np.outer(size, size))
    kept = values > len(size) * EPS * values[-1]
    half = vectors[:, kept] / np.sqrt(values[kept]) / size[:, None]
    return np.asarray((across @ half) @ half.T)


def _state_noise(stats: Stats, a: Array) -> Array:
    along = a @ stats.across.T
    return symmetric((stats.after - along - along.T + a @ stats.before @ a.T) / stats.moves)


def _regressed(stats: Stats, found: Mapping[str, Any], updates: frozenset[str]) -> dict[str, Array]:
    """The observation matrix and offset, as far as they are updated."""
    n, moves, shifts = stats.seen, "observation_matrix" in updates, "observation_offset" in updates
    mean, states = stats.totals / n, stats.states / n
    if moves and shifts:
        products = stats.state_products / n - np.outer(states, states)
        matrix = _divided(stats.value_states / n - np.outer(mean, states), products)
        return {"observation_matrix": matrix, "observation_offset": mean - matrix @ states}
    if moves:
        about = stats.value_states - np.outer(found["observation_offset"], stats.states)
        return {"observation_matrix": _divided(about, stats.state_products)}
    return {"observation_offset": mean - found["observation_matrix"] @ states} if shifts else {}


def _observation_noise(stats: Stats, found: Mapping[str, Any]) -> Array:
    """Second moments of what a step's values have beside C x + d: (d,) or (d, d)."""
    n, c, offset = stats.seen, np.asarray(found["observation_matrix"]), np.asarray(found["observation_offset"])
    products, along = stats.value_products / n, stats.value_states / n
    mean, states, squares = stats.totals / n, stats.states / n, stats.state_products / n
    left = mean - c @ states
    if products.ndim == 1:
        own = products - 2.0 * np.einsum("ij,ij->i", along, c) + np.einsum("ij,jk,ik->i", c, squares, c)
        return np.asarray(own - 2.0 * offset * left + offset**2)
    crossed, shifted = along @ c.T, np.outer(left, offset)
    own = products - crossed - crossed.T + c @ squares @ c.T - shifted - shifted.T + np.outer(offset, offset)
    return symmetric(own)


def _possible(covariance: Array) -> Array:
    """The covariance without the negative variances that rounding has left."""
    if not np.isfinite(covariance).all():
        return covariance
    values, vectors = np.linalg.eigh(covariance)
    return covariance if values[0] >= 0 else symmetric((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _floored(noise: Array, scale: Array) -> Array:
    """The noise of observations, of no direction below the floor."""
    if noise.ndim == 1:
        return np.maximum(noise, FLOOR * scale**2)
    if not np.isfinite(noise).all():
        return noise
    values, vectors = np.linalg.eigh(noise / np.outer(scale, scale))
    if values[0] >= FLOOR:
        return noise
    return symmetric((vectors * np.maximum(values, FLOOR)) @ vectors.T) * np.outer(scale, scale)


def _are_moments(stats: Stats) -> bool:
    """Whether second moments of states and of values can be such."""
    flat = stats.flatten().values()
    if not all(np.isfinite(value).all() for value in flat) or not min(stats.seen, stats.weight) > 0:
        return False
    if min(float(stats.moves), float(stats.begun)) < 0:
        return False
    moved = np.block([[stats.before, stats.across.T], [stats.across, stats.after]])
    c = _divided(stats.value_states, stats.state_products)
    along = stats.value_states @ c.T
    values = np.diag(stats.value_products) if stats.value_products.ndim == 1 else stats.value_products
    left = np.diag(np.diagonal(values - along)) if stats.value_products.ndim == 1 else symmetric(values - along)
    products = (moved, stats.state_products, left, stats.first_products)
    return all(float(np.linalg.eigvalsh(each)[0]) >= -64 * EPS * float(np.trace(each)) for each in products)
