"""One pass over the sequences of a chunk that a Gaussian chain describes: smoothed states and their sums.

Backward information, then smoothed states forward (the two-filter formula in the order of Rauch, Tung & Striebel 1965
turned round): sums of squares only, so that noise of 0, a diffuse start and missing steps are no special cases.

The log-likelihood is that of the smoothed path and the data together, less that of the path given the data:
Σ log N(z; T x̂, I) − ½ Σ (‖u‖² + log |M|), where u = M⁻¹(Gᵀη − GᵀΛA x̂) is what drove the state, x̂' = A x̂ + G u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import Boundary
from streamem.core.errors import NumericalError
from streamem.core.numerics import EPS
from streamem.models.gaussian_messages import Reach, Told, settled_all, step_of, symmetric
from streamem.models.gaussian_observations import LOG_2_PI, Observations
from streamem.models.steps import Steps

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain at fixed parameters.

    Attributes
    ----------
    a, g : (k, k) transition, and a square root of its covariance
    noise : (k, k) G Gᵀ
    mean, root : (k,), (k, k) of the first state, and a square root of its covariance; None for a diffuse start
    """

    a: Array
    g: Array
    noise: Array
    mean: Array
    root: Array | None

    @property
    def start(self) -> Reach:
        """The first state before it is seen; of a diffuse start it is δ itself."""
        k = len(self.a)
        if self.root is None:
            return Reach.of(np.eye(k), np.zeros((k, k)), np.zeros(k))
        return Reach.of(np.zeros((k, k)), self.root @ self.root.T, self.mean)


def root_of(covariance: Array) -> Array:
    """(k, k) G with G Gᵀ = covariance, which may be singular."""
    if not np.any(covariance - np.diag(np.diagonal(covariance))):
        return np.diag(np.sqrt(np.maximum(np.diagonal(covariance), 0.0)))
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


class GaussianPass:
    """Smoothed states of all steps of a chunk, and the sums that EM needs.

    Attributes
    ----------
    means : (n, k) smoothed states; 0 of padding
    covariances : (n, k, k), or of no rows if they are not kept
    by_kind : (p, k, k) weighted sums of covariances by kind of observation
    first, first_products : (k,), (k, k) Σ w E[x₁], Σ w E[x₁ x₁ᵀ] of sequences that begin here
    begun, moves : their weight, and that of transitions
    before, across, after : (k, k) Σ w E[x xᵀ], E[x' xᵀ], E[x' x'ᵀ] of transitions x → x'
    log_likelihood, rounding : in nats
    row_weights : (n,) of steps, 0 of padding
    """

    def __init__(
        self,
        chain: Chain,
        seen: Observations,
        steps: Steps,
        boundary: Boundary,
        weights: Array,
        keep: bool = False,
    ) -> None:
        n, k = len(seen.kinds), len(chain.a)
        self._chain, self._seen, self._weights, self._steps = chain, seen, weights, steps
        self._spans = np.ascontiguousarray(steps.spans, dtype=np.int64)
        self._before = None if boundary.before is None else Reach.unpacked(boundary.before, k)
        after = Told.nothing(k) if boundary.after is None else Told.unpacked(boundary.after, k)
        self.means = np.zeros((n, k))
        self.covariances = np.zeros((n if keep else 0, k, k))
        self.by_kind, self._moved = np.zeros((len(seen.seen), k, k)), np.zeros((3, k, k))
        self.log_likelihood, self.rounding = 0.0, 0.0
        self.row_weights = self._weights_of_rows(n)
        self._slots, self._volumes, self._q = np.empty((n, 3, k, k)), np.empty(n), np.empty((n, k))
        self._slot_of = np.zeros(n, dtype=np.int64)
        count = len(self._spans)
        self._first, self._first_h = np.zeros((count, k, k)), np.zeros((count, k))
        if count:
            self._smooth(after)
        self._sum()

    def _smooth(self, after: Told) -> None:
        chain, seen = self._chain, self._seen
        kernels.gaussian_information(
            self._spans,
            seen.kinds,
            seen.told,
            seen.h,
            chain.a,
            chain.g,
            after.matrix,
            after.vector,
            self._slots,
            self._volumes,
            self._slot_of,
            self._q,
            self._first,
            self._first_h,
        )
        spreads = self._begin()
        driven, volume = kernels.gaussian_states(
            self._spans,
            seen.kinds,
            self._weights,
            chain.a,
            chain.g,
            self._slots,
            self._volumes,
            self._slot_of,
            self._q,
            self.means,
            spreads,
            self.by_kind,
            self._moved,
            self.covariances,
        )
        self.log_likelihood -= 0.5 * (driven + volume)
        self.rounding += EPS * len(chain.a) * (driven + abs(volume))

    # --- first steps -------------------------------------------------------------------------------------------------

    def _begin(self) -> Array:
        """Smoothed first states; their covariances (s, k, k)."""
        filled = self._spans[:, 1] > self._spans[:, 0]
        opened = self._before is not None and len(filled) > 0
        own = filled.copy()
        own[:1] &= not opened
        if self._chain.root is None:
            own &= self._weights > 0
        spreads = np.zeros_like(self._first)
        k = len(self._chain.a)
        self.first, self.first_products, self.begun = np.zeros(k), np.zeros((k, k)), 0.0
        self.moves = 0.0
        if own.any():
            means, spreads[own], heights = self._begun(own)
            self.means[self._spans[own, 0]] = means
            weights = self._weights[own]
            self.log_likelihood += float(weights @ heights)
            self.begun, self.first = float(weights.sum()), weights @ means
            self.first_products = (means.T * weights) @ means + np.einsum("s,sij->ij", weights, spreads[own])
        if opened and filled[0]:
            spreads[0] = self._arrive()
        return spreads

    def _begun(self, own: Array) -> tuple[Array, Array, Array]:
        """Means, covariances and parts of the log-likelihood of the first states of sequences that begin here."""
        chain, lam, vector = self._chain, self._first[own], self._first_h[own]
        if chain.root is None:
            return self._from_nothing(own, lam, vector)
        g = chain.root
        m = np.eye(len(g)) + g.T @ lam @ g
        gain = np.linalg.solve(m, np.broadcast_to(g.T, lam.shape))
        u = np.einsum("sij,sj->si", gain, vector - lam @ chain.mean)
        heights = -0.5 * (np.einsum("si,si->s", u, u) + np.linalg.slogdet(m)[1])
        return chain.mean + u @ g.T, symmetric(g @ gain), heights

    def _from_nothing(self, own: Array, lam: Array, vector: Array) -> tuple[Array, Array, Array]:
        """A diffuse start, of density 1 everywhere (de Jong 1991).

        Raises
        ------
        NumericalError : a sequence that does not tell where it began
        """
        found = settled_all(lam, vector)
        if (open_ends := np.isnan(found.volumes)).any():
            s = int(np.flatnonzero(own)[np.argmax(open_ends)])
            begin, stop = self._spans[s].tolist()
            raise NumericalError(untold(s, begin, stop, len(self._chain.a)))
        return found.means, found.covariances, found.volumes

    def _arrive(self) -> Array:
        """The first state of a sequence that was cut before it, and the transition into it; its covariance."""
        assert self._before is not None
        chain, weight, row = self._chain, float(self._weights[0]), int(self._spans[0, 0])
        step = step_of(Told(self._first[0], self._first_h[0]), chain.a, chain.g)
        known = self._before.given(step.told)
        if known is None:
            raise NumericalError(untold(0, row, int(self._spans[0, 1]), len(chain.a)))
        mean, spread = known
        u = step.driven - step.back @ mean
        here = self.means[row] = chain.a @ mean + chain.g @ u
        across = step.forward @ spread
        found = symmetric(across @ step.forward.T + step.noise)
        self.log_likelihood -= 0.5 * weight * (float(u @ u) + step.volume)
        self._moved[0] += weight * (spread + np.outer(mean, mean))
        self._moved[1] += weight * (across + np.outer(here, mean))
        self._moved[2] += weight * (found + np.outer(here, here))
        self.moves += weight
        return found

    # --- sums --------------------------------------------------------------------------------------------------------

    def _weights_of_rows(self, n: int) -> Array:
        found, lengths = np.zeros(n), self._spans[:, 1] - self._spans[:, 0]
        if int(lengths.sum()) == n:
            return np.repeat(self._weights, lengths)
        for (begin, stop), weight in zip(self._spans.tolist(), self._weights.tolist(), strict=True):
            found[begin:stop] = weight
        return found

    def _sum(self) -> None:
        """Products of means, and the log-likelihood of what was seen."""
        if not len(self._spans):
            k = len(self._chain.a)
            self.first, self.first_products, self.begun, self.moves = np.zeros(k), np.zeros((k, k)), 0.0, 0.0
        x, w = self.means, self.row_weights
        moving = w.copy()
        moving[self._spans[self._spans[:, 1] > self._spans[:, 0], 0]] = 0.0
        self.moves += float(moving.sum())
        weighted, earlier = x[1:] * moving[1:, None], x[:-1]
        self.before = self._moved[0] + (earlier * moving[1:, None]).T @ earlier
        self.across = self._moved[1] + weighted.T @ earlier
        self.after = self._moved[2] + weighted.T @ x[1:]
        far = self._seen.far(x)
        squares = np.einsum("nj,nj->n", far, far)
        self.log_likelihood += float(w @ (self._seen.rest - 0.5 * squares))
        sizes = np.einsum("nj,nj->n", self._seen.z, self._seen.z)
        self.rounding += 8 * EPS * len(self._chain.a) * float(w @ (1.0 + squares + np.sqrt(sizes * squares)))
        self.rounding += 8 * EPS * float(w @ np.abs(self._seen.rest))


def untold(s: int, begin: int, stop: int, k: int) -> str:
    """What a sequence lacks for a diffuse start."""
    return (
        f"sequence {s} of the chunk (its rows {begin}–{stop - 1}) does not tell where it began, as a diffuse start of "
        f"{k} latent dimensions needs: observe more steps of it, leave it out, or give the start "
        "(initial_mean=, initial_covariance=) instead of diffuse=True"
    )


__all__ = ["LOG_2_PI", "Chain", "GaussianPass", "root_of", "untold"]
