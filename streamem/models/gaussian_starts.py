"""Where EM of a Gaussian chain begins: at what is given, and at moments of a sample of rows for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.extremes import balanced
from streamem.models.gaussian_setup import Setup

Array = NDArray[Any]

STAYS = 0.9, 0.5
"""Of the first and the last latent dimension: what of its value a step keeps."""
DRIVEN = 0.1
"""Share of the variance of observations that one step of a chain adds whose observation matrix is given."""
NOISE = 0.5
"""Share of it that is noise then; else the least share."""
LEAST_NOISE = 0.1
EXACT = 1e-9
"""How near an offset must be to what a constant state would give, to be taken into the state."""


def started(setup: Setup, sample: Chunk, rng: np.random.RandomState) -> Params:
    """The first parameters; a random rotation of the latent space tells starts apart."""
    mean, covariance = moments(sample)
    given, k = {name: np.array(value, dtype=np.float64) for name, value in setup.given.items()}, setup.n_latent
    scale = np.sqrt(np.where(np.diagonal(covariance) > 0, np.diagonal(covariance), 1.0))
    a = given.get("transition_matrix", np.diag(np.linspace(*STAYS, k) if k > 1 else np.full(1, STAYS[0])))
    c = given["observation_matrix"] if "observation_matrix" in given else directions(covariance, scale, k, rng)
    anchor, origin, offset = _frame(setup, a, c, mean, given)
    variance, noise, own = _spread(setup, a, c, scale, given)
    found = {
        "transition_matrix": a,
        "transition_covariance": given.get("transition_covariance", variance),
        "observation_matrix": c,
        "observation_covariance": given.get("observation_covariance", noise),
        "observation_offset": offset,
        "initial_mean": given.get("initial_mean", origin) - origin,
        "initial_covariance": given.get("initial_covariance", own),
    }
    return Params(components=Params(**found), anchor=anchor, origin=origin, scale=scale)


def moments(sample: Chunk) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of the values that were observed.

    Raises
    ------
    ParameterError : none was
    """
    sample, _ = balanced(sample)
    x = np.asarray(sample.x, dtype=np.float64)
    seen = ~np.isnan(x)
    if not seen.any():
        raise ParameterError(
            "every value of the sample is missing; a chain cannot start from that: pass steps that have values"
        )
    weight = np.ones(len(x)) if sample.weight is None else np.asarray(sample.weight, dtype=np.float64)
    counts = np.maximum(weight @ seen, np.finfo(np.float64).tiny)
    mean = weight @ np.where(seen, x, 0.0) / counts
    about = np.where(seen, x - mean, 0.0)
    pairs = np.maximum((seen * weight[:, None]).T @ seen, np.finfo(np.float64).tiny)
    return mean, (about * weight[:, None]).T @ about / pairs


def directions(covariance: Array, scale: Array, k: int, rng: np.random.RandomState) -> Array:
    """(d, k) principal directions of standardized values, turned at random; random ones beyond d."""
    d = len(scale)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    most = min(k, d)
    found = np.empty((d, k))
    found[:, :most] = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :most]
    found[:, most:] = rng.normal(size=(d, k - most)) / np.sqrt(k)
    turn, _ = np.linalg.qr(rng.normal(size=(k, k)))
    return np.asarray(scale[:, None] * found @ turn)


def _frame(setup: Setup, a: Array, c: Array, mean: Array, given: dict[str, Array]) -> tuple[Array, Array, Array]:
    """The anchor, the origin, and the offset about these.

    Where the offset is kept, a constant state may stand for the mean of the values: x = u with A u = u, C u = mean − d.
    """
    k, offset = len(a), given.get("observation_offset")
    if offset is None or "observation_offset" in setup.updates:
        anchor = mean
        return anchor, np.zeros(k), np.zeros(len(mean)) if offset is None else offset - anchor
    if {"transition_matrix", "observation_matrix"} & setup.updates:
        return offset, np.zeros(k), np.zeros(len(mean))
    matrix, wanted = np.vstack([a - np.eye(k), c]), np.concatenate([np.zeros(k), mean - offset])
    origin = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    exact = np.abs((a - np.eye(k)) @ origin).max() <= EXACT * np.abs(origin).max(initial=0.0)
    if not exact:
        origin = np.zeros(k)
    return c @ origin + offset, origin, np.zeros(len(mean))


def _spread(setup: Setup, a: Array, c: Array, scale: Array, given: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Covariances of the state's noise, of observations, and of the first state."""
    k, reached = len(a), np.einsum("ij,ij->i", c, c)
    shares = scale[reached > 0] ** 2 / reached[reached > 0]
    level = float(shares.mean()) if len(shares) else 1.0
    if "observation_matrix" in given:
        variance, noise, own = DRIVEN * level * np.eye(k), NOISE * scale**2, level * np.eye(k)
    else:
        stays = np.diag(np.clip(1.0 - np.diagonal(a) ** 2, 0.05, 1.0))
        variance, noise, own = stays, np.maximum(scale**2 - reached, LEAST_NOISE * scale**2), np.eye(k)
    return variance, np.diag(noise) if setup.observation_noise == "full" else noise, own
