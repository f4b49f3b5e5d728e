"""Weights of groups that depend on concomitants, as free numbers, from the statistics of E-steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.running.uncertainty.logit_ties import LogitTies, logit_ties

Array = NDArray[Any]


class GroupLogitTies(LogitTies):
    """The free numbers of logits, whose slope and curvature follow from the expansion that an E-step gives.

    That is in ũ = (1, (z − m) / h), with m the middle and h half the width of the box, and z̃ = (1, z) = A ũ.
    """

    def counts(self, stats: Stats) -> Array:
        """Curvature (K·q, K·q), target (K·q,) and the weight of all groups, in one array: they add up over chunks."""
        weight = float(np.sum(stats.responsibilities))
        return np.concatenate([np.ravel(stats.curvature), np.ravel(stats.target), [weight]])

    def score(self, counts: Array) -> Array:
        """(T,) slope at these numbers: of posteriors at other ones, right but for squares of how far these are."""
        curvature, target = self._expansion(counts)
        slope = target - curvature @ self._logits.ravel()
        return np.asarray(slope.reshape(self._logits.shape)[1:] @ self._in_units.T).ravel()

    def complete(self, sums: Stats) -> Array:
        """(T, T) minus the second derivatives, if components were known."""
        k, q = self._logits.shape
        units = np.kron(np.eye(k - 1), self._in_units)
        return np.asarray(units @ self._expansion(np.asarray(sums.counts))[0][q:, q:] @ units.T)

    def units(self, sums: Stats) -> float:
        """Weight of the groups, each once; that of statistics counts their rows."""
        return float(np.asarray(sums.counts)[-1])

    @property
    def _logits(self) -> Array:
        """θ (K, q), those of component 0 being 0."""
        return np.column_stack([self.intercept, self.coef]) @ self._in_units

    @property
    def _in_units(self) -> Array:
        """A (q, q)."""
        low, high = self.box
        out = np.diag(np.append(1.0, np.where(high > low, 0.5 * (high - low), 1.0)))
        out[1:, 0] = 0.5 * (low + high)
        return out

    def _expansion(self, counts: Array) -> tuple[Array, Array]:
        size = self._logits.size
        return counts[: size * size].reshape(size, size), counts[size * size : -1]


def group_logit_ties(params: Params) -> GroupLogitTies:
    """The free numbers of fitted parameters."""
    own = logit_ties(params)
    return GroupLogitTies(own.intercept, own.coef, own.box, own.shares)
