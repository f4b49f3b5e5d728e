"""Boundaries of cut sequences: what a piece needs from its neighbours, what it gives them, and how this is joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

POSTERIOR, PATH = "posterior", "path"
"""Questions to a chain: expected counts and probabilities (sums over paths), or its most probable path (maxima)."""

SUMS: dict[str, np.ufunc] = {POSTERIOR: np.logaddexp, PATH: np.maximum}
"""How paths that meet are combined, in logarithms."""


@dataclass(frozen=True, eq=False)
class Boundary:
    """What lies beyond a chunk, for the sequences that are cut at its ends.

    Attributes
    ----------
    before : (K,) log-probabilities, up to a constant, of the state at the last step *before* the chunk, or None: then
        the first sequence starts here, or is taken to do so
    after : (K,) log-likelihoods, up to a constant, of all that follows the chunk given the state at its last step, or
        None: nothing follows; models of other states have other arrays in both, which their `Joining` knows
    ended : what follows is padding only, so that missing rows at the end are no steps
    """

    before: Array | None = None
    after: Array | None = None
    ended: bool = False


@dataclass(frozen=True, eq=False)
class Cut:
    """What a chunk gives its neighbours about sequences cut at its ends, in logarithms up to constants.

    Attributes
    ----------
    head : (K,) of the first sequence, given the state before the chunk, if it ended here
    whole : (K, K) of the first sequence with its state at the last step, given the state before; if it goes on
    tail : (K,) of the last sequence with its state at the last step, if it starts here and goes on
    blank : the first sequence has missing rows only, which are padding if nothing else follows
    """

    head: Array | None = None
    whole: Array | None = None
    tail: Array | None = None
    blank: bool = False


class Joining:
    """How messages of pieces are joined: of K states, in logarithms, by sums over paths or by the best of them."""

    impossible = (
        "cannot have come from the model: every path takes a step of probability 0, or a density overflowed; allow "
        "more in startprob or transmat, or rescale the data"
    )
    """Why a message may be one that cannot be, in words."""

    def __init__(self, question: str) -> None:
        self._sum = SUMS[question]

    def lowered(self, message: Array) -> Array | None:
        """The message without the constant that is in it; None of one that cannot be."""
        highest = message.max()
        return np.asarray(message - highest) if np.isfinite(highest) else None

    def forwards(self, before: Array, whole: Array) -> Array:
        """The state at the end of a piece, from that before it and the `whole` of its `Cut`."""
        return np.asarray(self._sum.reduce(before[:, None] + whole, axis=0))

    def backwards(self, whole: Array, after: Array) -> Array:
        """What a piece and all that follows it tell of the state before it."""
        return np.asarray(self._sum.reduce(whole + after, axis=1))


@dataclass(frozen=True, eq=False)
class Endings:
    """What the next steps of an endless sequence may end in, under fixed parameters.

    Statistics depend on the state at the last step. They are known by what they are for J endings: each of K states,
    or a few distributions of a state that is a vector.

    Attributes
    ----------
    filtered : message about the state at the last step, given all steps so far
    shares : (J,) weights of the endings in the statistics given all steps so far; they sum to 1
    came : (J, J) weights of the endings of the steps before (rows), given the endings of these (columns)
    after : messages that say what follows, one an ending; None of one that is impossible
    ahead : whether all of this tells of the step that comes next instead of the last one
    """

    filtered: Array
    shares: Array
    came: Array
    after: tuple[Array | None, ...]
    ahead: bool = False


NEVER = -650.0
"""Logarithm of a probability that is none: a state that the last step cannot be in keeps no statistics of its own."""


def endings_of_states(filtered: Array, before: Array | None, whole: Array | None) -> Endings:
    """Endings in each of K states, from log-probabilities up to a constant.

    Parameters
    ----------
    filtered : (K,) of the state at the last step
    before, whole : (K,) of the state before, (K, K) of the state at the last step (columns) given that; or None
    """
    known = np.asarray(filtered - np.logaddexp.reduce(filtered))
    k = len(known)
    came = np.full((k, k), 1 / k)
    if before is not None and whole is not None:
        joint = before[:, None] + whole
        with np.errstate(invalid="ignore"):
            came = np.nan_to_num(np.exp(joint - np.logaddexp.reduce(joint, axis=0)), nan=1 / k)
    after = tuple(_certain(state, k) if known[state] > NEVER else None for state in range(k))
    return Endings(known, np.exp(known), came, after)


def _certain(state: int, k: int) -> Array:
    log_prob = np.full(k, -np.inf)
    log_prob[state] = 0.0
    return log_prob
