"""Anderson mixing of the statistics of EM steps (Anderson 1965; Henderson & Varadhan 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamem.algorithms.accelerated import Accelerated, Pair, Proposal
from streamem.algorithms.distances import Distances, with_totals
from streamem.algorithms.squarem import SquaredEM
from streamem.core.stats import Stats

WIDEN = 4.0
LEAST_REACH = 0.25
RIDGE = 1e-10
"""Of the largest eigenvalue of the normal equations, added to all of them."""

LONGER = 2.0
"""Times the bound that a step away from a saddle may have."""

LARGEST_REST = 0.5
"""Share of a residual that linear change may leave unexplained."""

LONGEST_WAIT = 16
"""Passes after a rejection without another try, at most."""


@dataclass(frozen=True)
class AndersonEM(Accelerated):
    """Every pass tries the point at which the residuals of the last EM steps, taken as linear, would vanish.

    With g the image of s under an EM step and f = g − s: s' = g − Σ γ_i Δg_i, where γ minimizes ‖f − Σ γ_i Δf_i‖ over
    the last four pairs (Walker & Ni 2011, eq. 2.2), damped by a ridge (Henderson & Varadhan 2019, §3.2). Along
    directions in which EM moves away from that point, a saddle, the step has the other sign. Where that minimum is more
    than ½‖f‖, residuals are not linear and the step is plain. The step beyond g is at most `reach`·‖f‖, and twice that
    where it leaves a saddle: the bound begins at 1, grows fourfold where it was reached and kept, and falls to a
    quarter after a rejection. For 1, 2, 4, … passes after each rejection in a row, squared steps are tried instead
    (`SquaredEM`), which do better far from the optimum. Norms are those of `Distances`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import Aitken, AndersonEM
    >>> rows = np.concatenate([np.zeros(60), np.full(60, 9.0)])[:, None] + np.linspace(0, 1, 120)[:, None]
    >>> gm = GaussianMixture(2, random_state=0)
    >>> sorted(gm.fit(rows, algorithm=AndersonEM(Aitken(1e-9), 50)).means_.ravel().round(1).tolist())
    [0.2, 9.8]
    """

    name = "anderson"
    n_pairs = 4
    forgets = False

    def fresh(self) -> Stats:
        """``reach``, ``bounded``, ``rate``; ``hold``, passes until the next mixed step, and ``wait``, those after a
        rejection; ``squared``, the scalars of squared steps, and whether the last try was ``one`` of these.
        """
        return Stats(reach=1.0, bounded=0.0, rate=1.0, hold=0.0, wait=1.0, one=0.0, squared=self._squared.fresh())

    def proposal(self, own: Stats, pairs: Sequence[Pair]) -> Proposal:
        """The mixed step; while it waits, the squared step; a plain one where only one pair is known."""
        if len(pairs) < 2:
            return Proposal(None, own)
        if float(own.hold) > 0:
            return self._other(own.replace(hold=float(own.hold) - 1.0), pairs)
        units, residuals = Distances(pairs[-1].image), [pair.image - pair.point for pair in pairs]
        size, before = units.norm(residuals[-1]), units.norm(residuals[-2])
        if pairs[-2].image == pairs[-1].point:  # after a proposal, residuals say nothing of EM's rate
            own = own.replace(rate=min(1.0, size / before) if before > 0 else 0.0)
        changes = [second - first for first, second in pairwise(residuals)]
        shares = _shares(units, changes, residuals[-1])
        if not units.norm(_less(residuals[-1], shares, changes)) <= LARGEST_REST * size:
            return self._other(own, pairs)
        steps = [(second.point - first.point, second.image - first.image) for first, second in pairwise(pairs)]
        turned = _away_from_saddles(units, [moved for moved, _ in steps], changes, shares)
        longer = 1.0 if turned is None else LONGER
        beyond = _less(pairs[-1].image * 0.0, shares if turned is None else turned, [to for _, to in steps])
        length, reach = units.norm(beyond), float(own.reach) * size * longer
        if not 0 < length < np.inf:
            return self._other(own, pairs)
        image = pairs[-1].image
        told = own.replace(bounded=float(length > reach), one=0.0)
        return Proposal(with_totals(image + beyond * min(1.0, reach / length), image), told)

    def after_verdict(self, own: Stats, kept: bool) -> Stats:
        """The next bound, and how many passes go by before the next mixed step."""
        if float(own.one):
            return own.replace(squared=self._squared.after_verdict(own.squared, kept))
        reach, wait = float(own.reach), float(own.wait)
        if kept:
            return own.replace(reach=reach * WIDEN if float(own.bounded) else reach, wait=1.0)
        lower = max(LEAST_REACH, reach / WIDEN)
        return own.replace(reach=lower, hold=wait, wait=min(2.0 * wait, LONGEST_WAIT))

    @property
    def _squared(self) -> SquaredEM:
        return SquaredEM(self.stopping, self.max_iter)

    def _other(self, own: Stats, pairs: Sequence[Pair]) -> Proposal:
        """The squared step, which takes two consecutive EM steps."""
        if pairs[-2].image != pairs[-1].point:
            return Proposal(None, own)
        found = self._squared.proposal(own.squared, pairs[-2:])
        return Proposal(found.stats, own.replace(squared=found.own, rate=found.own.rate, one=1.0))


def _less(stats: Stats, shares: Sequence[float], parts: Sequence[Stats]) -> Stats:
    """Statistics minus shares of others."""
    for share, part in zip(shares, parts, strict=True):
        stats = stats - part * share
    return stats


def _away_from_saddles(
    units: Distances, moves: Sequence[Stats], changes: Sequence[Stats], shares: list[float]
) -> list[float] | None:
    """Shares of which those along directions in which EM grows have the other sign (Dauphin et al. 2014, §5).

    None where there is no such direction.

    Residuals vanish at saddles too, which EM leaves and mixing would go to. In the span of the last moves Δs, the Δf
    are the Jacobian of EM less the identity: along its eigenvectors of positive eigenvalues EM moves away from the
    point where they vanish.
    """
    gram = np.array([[units.dot(one, other) for other in moves] for one in moves])
    cross = np.array([[units.dot(one, other) for other in changes] for one in moves])
    ridge = RIDGE * max(float(np.trace(gram)), np.finfo(np.float64).tiny)
    try:
        with np.errstate(all="ignore"):
            values, vectors = np.linalg.eig(np.linalg.solve(gram + ridge * np.eye(len(moves)), cross))
            turned = np.real(vectors @ (np.where(values.real > 0, -1.0, 1.0) * np.linalg.solve(vectors, shares)))
    except np.linalg.LinAlgError:  # too few directions, or none: nothing says that there is a saddle
        return None
    return turned.tolist() if (values.real > 0).any() else None


def _shares(units: Distances, changes: Sequence[Stats], residual: Stats) -> list[float]:
    """γ: least squares with a ridge, by the normal equations."""
    gram = np.array([[units.dot(one, other) for other in changes] for one in changes])
    aimed = np.array([units.dot(one, residual) for one in changes])
    values, vectors = np.linalg.eigh(gram)
    ridge = RIDGE * max(float(values[-1]), np.finfo(np.float64).tiny)
    found: list[float] = (vectors @ ((vectors.T @ aimed) / (np.maximum(values, 0.0) + ridge))).tolist()
    return found
