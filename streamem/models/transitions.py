"""How a hidden Markov chain starts and moves: structure, start, priors and the M-step of its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.validation import numbers

Array = NDArray[Any]
Topology = str | tuple[str, int]

NEVER = 1e-200
"""A state that is left less often than this keeps its transitions: such counts are what underflow leaves."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """Initial and transition probabilities of K states.

    Parameters
    ----------
    topology : "ergodic" (any state may follow any), "left-right" (state i is followed by i or i + 1, and the chain
        starts in state 0), or ("banded", w): a state is followed by those at most w away
    tied : groups of states that share one row of transition probabilities
    startprob_prior, transmat_prior : parameters α ≥ 1 of Dirichlet priors, (K,) or (K, K) or a number; 1 is no prior
    startprob, transmat : probabilities to start from, or None; what is zero stays zero
    """

    n_states: int
    topology: Topology = "ergodic"
    tied: Sequence[Sequence[int]] = ()
    startprob_prior: ArrayLike = 1.0
    transmat_prior: ArrayLike = 1.0
    startprob: ArrayLike | None = None
    transmat: ArrayLike | None = None

    def __post_init__(self) -> None:
        self._check_tied()
        for name in ("startprob_prior", "transmat_prior"):
            prior = numbers(getattr(self, name), name)
            shape = (self.n_states,) * (1 if name == "startprob_prior" else 2)
            if not (np.isfinite(prior).all() and (prior >= 1).all()):
                raise ParameterError(
                    f"{name} has values down to {prior.min()}; they must be >= 1: below, a posterior has no maximum. "
                    "1 is no prior, and each unit above counts as one observed event"
                )
            try:
                np.broadcast_to(prior, shape)
            except ValueError:
                raise ParameterError(f"{name} has shape {prior.shape}; a number or {shape} is needed") from None

    # --- start -------------------------------------------------------------------------------------------------------

    def first(self) -> Params:
        """startprob (K,) and transmat (K, K) before the first pass."""
        k = self.n_states
        allowed = self._allowed()
        startprob = np.full(k, 1 / k) if self.topology != "left-right" else np.eye(k)[0]
        transmat = allowed / allowed.sum(axis=1, keepdims=True)
        if self.startprob is not None:
            startprob = probabilities(self.startprob, (k,), "startprob")
        if self.transmat is not None:
            transmat = probabilities(self.transmat, (k, k), "transmat")
            self._require_structure(transmat, allowed)
        return Params(startprob=startprob, transmat=self._shared(transmat))

    def _allowed(self) -> Array:
        k = self.n_states
        apart = np.arange(k)[None, :] - np.arange(k)[:, None]
        if self.topology == "ergodic":
            return np.ones((k, k))
        if self.topology == "left-right":
            return ((apart == 0) | (apart == 1)).astype(np.float64)
        match self.topology:
            case ("banded", int(width)) if width >= 0:
                return (np.abs(apart) <= width).astype(np.float64)
        raise ParameterError(
            f'topology is {self.topology!r}; it must be "ergodic", "left-right" or ("banded", width) with width >= 0'
        )

    # --- M-step ------------------------------------------------------------------------------------------------------

    @property
    def has_prior(self) -> bool:
        """Whether the chain has a prior, so that its estimate is more than maximum likelihood."""
        return bool((self._start_prior() > 1).any() or (self._move_prior() > 1).any())

    def maximize_start(self, counts: Array, previous: Array, share: float = 1.0) -> Array:
        """startprob (K,) from expected first states of such a share of the data; as before if there were none."""
        counts = np.where(previous > 0, counts + share * (self._start_prior() - 1), 0.0)
        total = counts.sum()
        return counts / total if total > NEVER else np.asarray(previous)

    def maximize_moves(self, counts: Array, previous: Array, share: float = 1.0) -> Params:
        """transmat (K, K) from expected transitions, and the absorbing states (K,): none expected from these."""
        counts = self._summed(np.where(previous > 0, counts + share * (self._move_prior() - 1), 0.0))
        total = counts.sum(axis=1)
        absorbing = ~(total > NEVER)
        transmat = np.where(absorbing[:, None], previous, counts / np.where(absorbing, 1.0, total)[:, None])
        return Params(transmat=transmat, absorbing=absorbing)

    def penalty(self, startprob: Array, transmat: Array) -> float:
        """Minus the logarithm of the prior density, up to a constant, in nats (Gauvain & Lee 1994)."""
        total = 0.0
        for prior, values in ((self._start_prior(), startprob), (self._move_prior(), transmat)):
            counted = (values > 0) & (prior > 1)
            total -= float(np.sum((prior[counted] - 1) * np.log(values[counted])))
        return total

    # --- inner -------------------------------------------------------------------------------------------------------

    def _start_prior(self) -> Array:
        return np.broadcast_to(np.asarray(self.startprob_prior, dtype=np.float64), (self.n_states,))

    def _move_prior(self) -> Array:
        return np.broadcast_to(np.asarray(self.transmat_prior, dtype=np.float64), (self.n_states,) * 2)

    def _summed(self, counts: Array) -> Array:
        """Rows of tied states added up."""
        counts = counts.copy()
        for group in self.tied:
            counts[list(group)] = counts[list(group)].sum(axis=0)
        return counts

    def _shared(self, transmat: Array) -> Array:
        """Rows of tied states averaged."""
        if not self.tied:
            return transmat
        sums = self._summed(transmat)
        return sums / sums.sum(axis=1, keepdims=True)

    def _require_structure(self, transmat: Array, allowed: Array) -> None:
        """Refuse probabilities to start from that the topology or the ties would change."""
        beyond = np.argwhere((transmat > 0) & (allowed == 0))
        if len(beyond):
            i, j = beyond[0].tolist()
            raise ParameterError(
                f"transmat[{i}, {j}] is {transmat[i, j]}, a step that topology {self.topology!r} does not allow; set "
                "it to 0, or choose another topology"
            )
        for group in self.tied:
            rows = transmat[list(group)]
            if np.abs(rows - rows[:1]).max(initial=0.0) > 1e-6:
                raise ParameterError(
                    f"the rows of transmat for states {list(group)} differ, and tied_transitions has them share one; "
                    "give them equal rows, or let init_params name t"
                )

    def _check_tied(self) -> None:
        named = [state for group in self.tied for state in group]
        if len(set(named)) < len(named) or not set(named) <= set(range(self.n_states)):
            raise ParameterError(
                f"tied_transitions is {[list(group) for group in self.tied]}; every state of 0 … {self.n_states - 1} "
                "may be in one group"
            )


def probabilities(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Values as distributions along the last axis.

    Raises
    ------
    ParameterError : not of that shape, negative or not finite, or a row that does not sum to 1 (to 1e-6)
    """
    array = numbers(values, name)
    if array.shape != shape:
        raise ParameterError(f"{name} has shape {array.shape}; {shape} is needed, one row a state")
    sums = array.sum(axis=-1)
    if not (np.isfinite(array).all() and (array >= 0).all() and (np.abs(sums - 1) < 1e-6).all()):
        at = int(np.argmax(~(np.abs(np.atleast_1d(sums) - 1) < 1e-6)))
        raise ParameterError(
            f"{name} must hold probabilities, rows of finite numbers >= 0 that sum to 1; its smallest value is "
            f"{array.min()}, and row {at} sums to {np.atleast_1d(sums)[at]}"
        )
    return array / sums[..., None]
