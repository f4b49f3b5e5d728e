"""Probabilities that are multinomial logits of covariates: what they are, and their step of Newton's method.

Written for transitions; weights of a mixture are those out of a single state (J = 1).

log A_t[i, j] = ũ_t·θ_ij − log Σ_j exp(ũ_t·θ_ij), where ũ_t = (1, u_t) and covariates are taken as (u − middle) / half
of their range, so that those of the fit lie in [−1, 1]. Of all θ that mean the same, Σ_j θ_ij = 0.

The expected log-likelihood of the transitions, Σ_t Σ_ij ξ_t(i, j) log A_t[i, j], has no statistics of fixed size. Its
second-order expansion about the θ of the E-step has: curvature H_i and H_i θ_i + gradient, which add up over rows. The
M-step goes towards the maximum of the expansion (McLachlan & Krishnan 2008, §1.5.6: generalized EM), as far as the
expected log-likelihood is sure to rise: along a direction δ its third derivative is at most R times its second one, R
the range over states of ũ·δ_ij in the box of the covariates, so that it rises for the share log(1 + R)/R of Newton's
step (Bach 2010, Electronic Journal of Statistics 4, proposition 1), which tends to 1.

Letters: K states, of which J = K or 1 are left, p covariates, q = 1 + p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.models.transitions import NEVER

Array = NDArray[Any]

LEAST_CURVATURE = 0.5
"""Share of the last curvature that an extrapolated one has to keep along each direction, or the last one stays."""

FLAT = 1e-10
"""Share of a state's weight below which curvature tells no direction: probabilities are 0 or 1 to that, or covariates
say the same."""


def design(covariates: Array, bounds: Array) -> Array:
    """ũ (n, 1 + p) of covariates (n, p) whose box is bounds (2, p)."""
    low, high = bounds
    half = np.where(high > low, 0.5 * (high - low), 1.0)
    out = np.ones((len(covariates), 1 + covariates.shape[1]))
    out[:, 1:] = (covariates - 0.5 * (low + high)) / half
    return out


def log_moves(logits: Array, rows: Array, jumps: bool = False) -> Array:
    """Logarithms (n, J, K) of transition probabilities at rows ũ (n, q), of logits θ (J, K, q).

    With `jumps` no state follows itself.
    """
    j, k, q = logits.shape
    found = (logits.reshape(j * k, q) @ rows.T).reshape(j, k, len(rows))  # rows last: NumPy is slow along K numbers
    if jumps:
        found[np.arange(k), np.arange(k)] = -np.inf
    found -= found.max(axis=1, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(found.transpose(2, 0, 1))


class MoveSums:
    """Curvature (J, K·q, K·q) and target (J, K·q) of the expansion at logits (J, K, q), over rows."""

    def __init__(self, logits: Array) -> None:
        j, k, q = logits.shape
        self._logits = logits
        self.counts, self._slope = np.zeros((j, k)), np.zeros((j, k, q))
        self._curvature = np.zeros((j, k * k, q * q))

    def add(self, expected: Array, moves: Array, rows: Array) -> None:
        """Expected transitions (n, J, K) of weight, logarithms of their probabilities, and ũ (n, q)."""
        (n, j, k), q = expected.shape, rows.shape[1]
        told, chances = (np.ascontiguousarray(own.transpose(1, 2, 0)) for own in (expected, np.exp(moves)))
        left = told.sum(axis=1)
        self.counts += told.sum(axis=2)
        surprise = told - left[:, None] * chances
        self._slope += (surprise.reshape(j * k, n) @ rows).reshape(j, k, -1)
        squares = (rows[:, :, None] * rows[:, None, :]).reshape(n, q * q)
        for i in range(j):
            weighed = left[i] * chances[i]
            spread = -weighed[:, None] * chances[i]
            spread[np.arange(k), np.arange(k)] += weighed
            self._curvature[i] += spread.reshape(k * k, n) @ squares

    def stats(self) -> Stats:
        """transitions (J, K), curvature and target."""
        j, k, q = self._logits.shape
        curvature = self._curvature.reshape(j, k, k, q, q).transpose(0, 1, 3, 2, 4).reshape(j, k * q, k * q)
        at = np.einsum("iab,ib->ia", curvature, self._logits.reshape(j, -1))
        return Stats(transitions=self.counts, curvature=curvature, target=at + self._slope.reshape(j, -1))


def maximized(stats: Stats, logits: Array) -> tuple[Array, Array]:
    """Logits (J, K, q) after a step that is sure to raise the expected log-likelihood, and states (J,) never left."""
    j, k, q = logits.shape
    found, kept = np.array(logits), np.zeros(j, dtype=np.bool_)
    basis = np.kron(_contrasts(k), np.eye(q))  # directions that change probabilities
    for i in range(j):
        weight = float(np.sum(stats.transitions[i]))
        if not weight > NEVER:
            kept[i] = True
            continue
        curvature = basis.T @ (stats.curvature[i] / weight) @ basis
        slope = basis.T @ ((stats.target[i] - stats.curvature[i] @ logits[i].ravel()) / weight)
        values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
        told = values > FLAT
        step = (basis @ (vectors[:, told] @ ((vectors[:, told].T @ slope) / values[told]))).reshape(k, q)
        found[i] += _share(step) * step
    return found, kept


def plausible(stats: Stats, valid: Stats) -> dict[str, Array]:
    """curvature and target of extrapolated statistics; those of `valid` where the curvature is no such."""
    curvature, target = np.array(valid.curvature), np.array(valid.target)
    for i in range(len(curvature)):
        least = np.linalg.eigvalsh(stats.curvature[i] - LEAST_CURVATURE * valid.curvature[i])[0]
        if np.isfinite(least) and least >= -EPS * max(1.0, float(np.trace(valid.curvature[i]))):
            curvature[i], target[i] = stats.curvature[i], stats.target[i]
    return {"curvature": curvature, "target": target}


def _share(step: Array) -> float:
    """How much of a step (K, q) is sure to help: log(1 + R)/R."""
    apart = np.abs(step[:, None, :] - step[None, :, :])
    reach = float(apart.sum(axis=2).max(initial=0.0))
    return float(np.log1p(reach) / reach) if reach > 0 else 1.0


def _contrasts(k: int) -> Array:
    """(K, K − 1) orthonormal, each column sums to 0 (Helmert)."""
    out = np.zeros((k, k - 1))
    for j in range(1, k):
        out[:j, j - 1], out[j, j - 1] = 1.0, -float(j)
        out[:, j - 1] /= np.sqrt(j * (j + 1))
    return out


# --- in the units of the data -----------------------------------------------------------------------------------------


def box_of_covariates(chunk: Chunk) -> Array:
    """(2, p) smallest and largest covariates of rows that count; NaN, which is padding or missing, counts nothing."""
    found = chunk.covariates
    assert found is not None  # of a model that asks for it
    found = found if chunk.weight is None else found[chunk.weight > 0]
    low = np.fmin.reduce(found, axis=0, initial=np.inf)
    return np.stack([low, np.fmax.reduce(found, axis=0, initial=-np.inf)])


def require_varying(box: Array, what: str, where: str, names: Sequence[str] | None = None) -> None:
    """Refuse covariates of `what` that are the same everywhere; `names` is how messages call them, else by position.

    Raises
    ------
    DegenerateDataError : naming the first of them, or that there are no values
    """
    if (flat := np.flatnonzero(~(box[1] > box[0]))).size:
        c = int(flat[0])
        value = f"{box[0, c]:.6g}" if np.isfinite(box[0, c]) else "missing"
        raise DegenerateDataError(
            f"covariate {c if names is None else names[c]} of the {what} is {value} in every {where}: it tells nothing "
            "that the intercept does not; leave the column out"
        )


def shown(logits: Array, bounds: Array, jumps: bool = False) -> Params:
    """intercept (J, K) and coef (J, K, p) in units of the data, those of state 0 as a destination being 0.

    With `jumps` those of state 0 are beside state 1, and a state's own are 0.
    """
    low, high = np.asarray(bounds)
    half = np.where(high > low, 0.5 * (high - low), 1.0)
    own = np.array(logits)
    every, first = np.arange(len(own)), np.zeros(len(own), dtype=np.int64)
    if jumps:
        first[0] = 1
    own -= own[every, first][:, None]
    if jumps:
        own[every, every] = 0.0
    coef = own[:, :, 1:] / half
    return Params(intercept=own[:, :, 0] - coef @ (0.5 * (low + high)), coef=coef)


def hidden(intercept: Array, coef: Array, bounds: Array) -> Array:
    """The logits (J, K, q) of an intercept and coefficients in units of the data; the inverse of `shown`."""
    low, high = np.asarray(bounds)
    half = np.where(high > low, 0.5 * (high - low), 1.0)
    own = np.concatenate([(intercept + coef @ (0.5 * (low + high)))[:, :, None], coef * half], axis=2)
    return np.asarray(own - own.mean(axis=1, keepdims=True))
