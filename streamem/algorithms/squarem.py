"""SQUAREM: squared extrapolation from the statistics of two EM steps (Varadhan & Roland 2008)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamem.algorithms.accelerated import Accelerated, Pair, Proposal
from streamem.algorithms.distances import Distances, with_totals
from streamem.core.stats import Stats

WIDEN = 4.0
"""By how much the bound on a step grows once it was reached and kept, and falls after a rejection."""


@dataclass(frozen=True)
class SquaredEM(Accelerated):
    """Two passes a cycle: an EM step, and a step to s' = a + 2αr + α²v from statistics a, b, c of consecutive EM steps.

    r = b − a, v = (c − b) − r, and α = ‖r‖/‖v‖, cut to 1 … α_max (Varadhan & Roland 2008, eq. 6 and 7, scheme S3, with
    the sign of α turned); α = 1 is the plain step. α_max begins at 1, grows fourfold where it was reached and kept, and
    falls to a quarter, not below 1, after a rejection. Norms are those of `Distances`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import Aitken, SquaredEM
    >>> rows = np.concatenate([np.zeros(60), np.full(60, 9.0)])[:, None] + np.linspace(0, 1, 120)[:, None]
    >>> gm = GaussianMixture(2, random_state=0)
    >>> sorted(gm.fit(rows, algorithm=SquaredEM(Aitken(1e-9), 50)).means_.ravel().round(1).tolist())
    [0.2, 9.8]
    """

    name = "squarem"
    n_pairs = 2
    forgets = True

    def fresh(self) -> Stats:
        """``reach`` (α_max), ``bounded`` (whether the last α reached it), ``rate``."""
        return Stats(reach=1.0, bounded=0.0, rate=1.0)

    def proposal(self, own: Stats, pairs: Sequence[Pair]) -> Proposal:
        """The squared step from the last three; a plain one where α is 1, which is kept by itself."""
        if len(pairs) < 2:
            return Proposal(None, own)
        (a, b), (_, c) = pairs
        reach, units = float(own.reach), Distances(c)
        r, v = b - a, (c - b) - (b - a)
        size, bend = units.norm(r), units.norm(v)
        length = max(1.0, size / bend) if bend > 0 else max(1.0, reach)
        told = Stats(reach=reach, bounded=float(length >= reach), rate=1.0 - 1.0 / length)
        alpha = min(length, reach)
        if alpha == 1.0:
            return Proposal(None, self.after_verdict(told, kept=True))
        return Proposal(with_totals(a + r * (2.0 * alpha) + v * alpha**2, c), told)

    def after_verdict(self, own: Stats, kept: bool) -> Stats:
        """The next bound on α."""
        reach = float(own.reach)
        if not kept:
            reach = max(1.0, reach / WIDEN)
        elif float(own.bounded):
            reach *= WIDEN
        return own.replace(reach=reach)
