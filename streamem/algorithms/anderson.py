"""Anderson mixing of the statistics of EM steps (Anderson 1965; Henderson & Varadhan 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamem.algorithms.accelerated import Accelerated, Pair, Proposal
from streamem.algorithms.distances import Distances, with_totals
from streamem.core.stats import Stats

WIDEN = 4.0
LEAST_REACH = 0.25
RIDGE = 1e-10
"""Of the largest eigenvalue of the normal equations, added to all of them."""
LARGEST_REST = 0.5
"""Share of a residual that linear change may leave unexplained."""

LONGEST_WAIT = 16
"""Plain steps after a rejection, at most."""


@dataclass(frozen=True)
class AndersonEM(Accelerated):
    """Every pass tries the point at which the residuals of the last EM steps, taken as linear, would vanish.

    With g the image of s under an EM step and f = g − s: s' = g − Σ γ_i Δg_i, where γ minimizes ‖f − Σ γ_i Δf_i‖ over
    the last four pairs (Walker & Ni 2011, eq. 2.2), damped by a ridge (Henderson & Varadhan 2019, §3.2). Where that
    minimum is more than ½‖f‖, residuals are not linear and the step is plain. The step beyond g is at most
    `reach`·‖f‖: the bound begins at 1, grows fourfold where it was reached and kept, and falls to a quarter after a
    rejection, which is followed by 1, 2, 4, … plain steps as long as proposals fail. Norms are those of `Distances`.
    """

    name = "anderson"
    key = "anderson"
    n_pairs = 4
    forgets = False

    def fresh(self) -> Stats:
        """``reach``, ``bounded``, ``rate``; ``hold``, plain steps to come, and ``wait``, those after a rejection."""
        return Stats(reach=1.0, bounded=0.0, rate=1.0, hold=0.0, wait=1.0)

    def proposal(self, own: Stats, pairs: Sequence[Pair]) -> Proposal:
        """The mixed step; a plain one while it waits, or knows one pair only."""
        if len(pairs) < 2:
            return Proposal(None, own)
        units, residuals = Distances(pairs[-1].image), [pair.image - pair.point for pair in pairs]
        size, before = units.norm(residuals[-1]), units.norm(residuals[-2])
        own = own.replace(rate=min(1.0, size / before) if before > 0 else 0.0)
        if float(own.hold) > 0 or size == 0:
            return Proposal(None, own.replace(hold=max(0.0, float(own.hold) - 1.0)))
        changes = [second - first for first, second in pairwise(residuals)]
        shares = _shares(units, changes, residuals[-1])
        left, beyond = residuals[-1], pairs[-1].image * 0.0
        for share, change, (first, second) in zip(shares, changes, pairwise(pairs), strict=True):
            left, beyond = left - change * share, beyond - (second.image - first.image) * share
        length, reach = units.norm(beyond), float(own.reach) * size
        if not (units.norm(left) <= LARGEST_REST * size and 0 < length < np.inf):
            return Proposal(None, own)
        told = own.replace(bounded=float(length > reach))
        image = pairs[-1].image
        return Proposal(with_totals(image + beyond * min(1.0, reach / length), image), told)

    def after_verdict(self, own: Stats, kept: bool) -> Stats:
        """The next bound, and how many plain steps come first."""
        reach, wait = float(own.reach), float(own.wait)
        if kept:
            return own.replace(reach=reach * WIDEN if float(own.bounded) else reach, wait=1.0)
        lower = max(LEAST_REACH, reach / WIDEN)
        return own.replace(reach=lower, hold=wait, wait=min(2.0 * wait, LONGEST_WAIT))


def _shares(units: Distances, changes: Sequence[Stats], residual: Stats) -> list[float]:
    """γ: least squares with a ridge, by the normal equations."""
    gram = np.array([[units.dot(one, other) for other in changes] for one in changes])
    aimed = np.array([units.dot(one, residual) for one in changes])
    values, vectors = np.linalg.eigh(gram)
    ridge = RIDGE * max(float(values[-1]), np.finfo(np.float64).tiny)
    found: list[float] = (vectors @ ((vectors.T @ aimed) / (np.maximum(values, 0.0) + ridge))).tolist()
    return found
