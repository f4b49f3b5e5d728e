"""Boundaries of cut sequences: what a piece needs from its neighbours, and what it gives them."""

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
        None: nothing follows
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
