"""Forward–backward for states that last, where covariates of the step that is left decide which state follows.

Messages are those of `driven_pass`, of sub-states: what lies before a piece is told as the sub-state at its first step,
and what lies after it as the likelihood of that, given the sub-state at the first step after the piece. A piece that
goes on has one more step, at which nothing was observed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.boundary import PATH, Boundary
from streamem.models.age_pass import AgedChain, AgePass, Way, with_none
from streamem.models.driven_pass import Drive
from streamem.models.emissions import Emissions
from streamem.models.logit_moves import MoveSums
from streamem.models.steps import Steps

Array = NDArray[Any]


class DrivenAgePass(AgePass):
    """One pass over a chunk at fixed parameters; `moves` are expected transitions between states."""

    def __init__(
        self, aged: AgedChain, drive: Drive, emissions: Emissions, steps: Steps, boundary: Boundary, group_rows: int
    ) -> None:
        super().__init__(aged, emissions, steps, boundary, group_rows)
        self._drive, self.moves = drive, MoveSums(drive.logits)

    def _sequence(self, s: int, weight: float, b: Array, peaks: Array, gamma: Array) -> None:
        before = self._boundary.before if s == 0 else None
        after = self._boundary.after if s == len(self._steps.spans) - 1 else None
        first, n, found = int(self._steps.spans[s, 0]), len(b), gamma
        log_moves = self._drive.moves(first, first + n)
        left = n if after is not None else n - 1
        if after is not None:
            none = np.zeros((1, b.shape[1]))
            none[0, : self._k] = 1.0
            b, peaks, found = np.vstack([b, none]), np.append(peaks, 0.0), np.zeros((n + 1, gamma.shape[1]))
        own = log_moves[: max(left, 1)]
        transitions = np.zeros(own.shape)
        way = Way(before, False, after, np.exp(own), own)
        self.sums.log_likelihood += weight * self._along(s, way, weight, b, peaks, found, transitions)
        gamma[:] = found[:n]
        if left:
            self.moves.add(transitions[:left], own[:left], self._drive.rows[first : first + left])
        self.sums.visits += gamma[:, : self._k].sum(axis=0)
        if before is None:
            self.sums.begun += gamma[0, : self._k]


class DrivenAgeMessages:
    """The one sequence of a chunk at fixed parameters: what it tells of itself, given where it comes from and goes to.

    Messages are logarithms (K·D,) up to constants, of sub-states (k, a) in C order.
    """

    def __init__(self, aged: AgedChain, drive: Drive, emissions: Emissions, steps: Steps, boundary: Boundary) -> None:
        self._aged, self._drive, self._emissions, self._boundary = aged, drive, emissions, boundary
        self._first, self._stop = steps.spans[0].tolist()

    def forward(self, question: str) -> Array:
        """(K·D,) of the sub-state at the first step after the piece."""
        before, aged, table = self._boundary.before, self._aged, self._aged.ages
        entry = aged.entry(before, True)
        if self._first == self._stop:
            return entry.ravel() if before is None else before
        given = with_none(self._log_prob()), entry, False, self._moves(), table.log_leave, table.log_stay
        if question == PATH:
            return np.asarray(kernels.best_age_scores(*given)).ravel()
        return np.asarray(kernels.age_log_forward(*given)[0]).ravel()

    def backward(self, question: str) -> Array:
        """(K·D,) of all steps and what follows, given the sub-state at the first of them."""
        aged, table, after = self._aged, self._aged.ages, self._boundary.after
        found = aged.exit(after, True)
        if self._first == self._stop:
            return found.ravel()
        log_prob, moves = self._log_prob(), self._moves()
        following = log_prob[1:] if after is None else with_none(log_prob)[1:]
        if len(following):
            told = kernels.best_age_rest if question == PATH else kernels.age_log_backward
            own = np.ascontiguousarray(moves[: len(following)])
            given = np.ascontiguousarray(following), found, own, table.log_leave, table.log_stay
            found = np.asarray(told(*given))
        return np.asarray((found + log_prob[0][:, None]).ravel())

    def _moves(self) -> Array:
        return self._drive.moves(self._first, self._stop)

    def _log_prob(self) -> Array:
        return np.ascontiguousarray(self._emissions.log_prob(self._first, self._stop))
