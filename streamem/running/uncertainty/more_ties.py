"""Numbers beside probabilities that tie the states of a chain together: durations, and logits of transitions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.models.durations import Durations

Array = NDArray[Any]

STEP = 2.0**-13
"""Of differences of expected slopes, in logarithms: they err by its square, and by rounding over it."""


class MoreTies(ABC):
    """Free numbers whose part of the expected log-likelihood follows from statistics of a model.

    Attributes
    ----------
    free_names : of each number
    steps : (p,) of differences
    """

    @property
    @abstractmethod
    def free_names(self) -> list[str]:
        """Names of the free numbers."""

    @property
    def steps(self) -> Array:
        """(p,) how far each number is moved for differences."""
        return np.full(len(self.free_names), STEP)

    @abstractmethod
    def counts(self, stats: Stats) -> Array:
        """What `score` and `information` need of statistics, which add up over chunks, in one array."""

    @abstractmethod
    def score(self, counts: Array) -> Array:
        """(p,) slope of the expected log-likelihood at these numbers, of posteriors at those or neighbouring ones."""

    @abstractmethod
    def information(self, counts: Array) -> Array:
        """(p, p) minus the second derivative of the expected log-likelihood at fixed posteriors."""

    @abstractmethod
    def moved(self, params: Params, m: int, amount: float) -> Params:
        """Parameters of the model with free number m moved."""


@dataclass(frozen=True, eq=False)
class DurationTies(MoreTies):
    """Logarithms of the parameters of durations (K, p)."""

    durations: Durations
    logs: Array

    @classmethod
    def of(cls, durations: Durations, params: Params) -> DurationTies:
        """Durations of fitted parameters."""
        return cls(durations, np.asarray(params.duration_logs))

    @property
    def free_names(self) -> list[str]:
        """One for the mean of each state, less the step that it lasts at least, and one for its size."""
        words = ("log_excess_duration", "log_duration_size")
        return [f"{words[i]}{[k]}" for k in range(len(self.logs)) for i in range(self.logs.shape[1])]

    def counts(self, stats: Stats) -> Array:
        """Steps after which states of each age were left, and stays."""
        return np.concatenate([np.ravel(stats.leaves), np.ravel(stats.stays)])

    def score(self, counts: Array) -> Array:
        """Slopes by differences of the fourth order."""
        slope, _ = self.durations.derivatives(self.logs, *self._counted(counts))
        return slope.ravel()

    def information(self, counts: Array) -> Array:
        """States have nothing to do with each other."""
        _, curvature = self.durations.derivatives(self.logs, *self._counted(counts))
        k, p = self.logs.shape
        out = np.zeros((k, p, k, p))
        out[np.arange(k), :, np.arange(k), :] = -curvature
        return out.reshape(k * p, k * p)

    def moved(self, params: Params, m: int, amount: float) -> Params:
        """Parameters with one logarithm moved."""
        logs = np.array(params.duration_logs)
        logs.ravel()[m] += amount
        return params.replace(duration_logs=logs)

    def _counted(self, counts: Array) -> tuple[Array, Array]:
        leaves, stays = counts.reshape(2, len(self.logs), -1)
        return leaves, stays


@dataclass(frozen=True, eq=False)
class DrivenTies(MoreTies):
    """Logits (K, K, q) of transitions, of which those to state 0 stay as they are."""

    logits: Array

    @property
    def free_names(self) -> list[str]:
        """One for each transition to another state than 0 and each column of the design."""
        j, k, q = self.logits.shape
        return [f"transition_logits{[i, o, c]}" for i in range(j) for o in range(1, k) for c in range(q)]

    def counts(self, stats: Stats) -> Array:
        """The expansion of the expected log-likelihood."""
        return np.concatenate([np.ravel(stats.curvature), np.ravel(stats.target)])

    def score(self, counts: Array) -> Array:
        """The slope of the expansion: of posteriors at other logits, right but for squares of how far these are."""
        curvature, target = self._expansion(counts)
        slope = target - np.einsum("iab,ib->ia", curvature, self.logits.reshape(len(target), -1))
        return np.asarray(slope.reshape(self.logits.shape)[:, 1:].ravel())

    def information(self, counts: Array) -> Array:
        """The curvature of the expansion."""
        curvature, _ = self._expansion(counts)
        j, k, q = self.logits.shape
        own = (k - 1) * q
        out = np.zeros((j, own, j, own))
        out[np.arange(j), :, np.arange(j), :] = curvature[:, q:, q:]
        return out.reshape(j * own, j * own)

    def moved(self, params: Params, m: int, amount: float) -> Params:
        """Parameters with one logit moved."""
        logits = np.array(params.logits)
        own = logits[:, 1:]
        own[np.unravel_index(m, own.shape)] += amount
        return params.replace(logits=logits)

    def _expansion(self, counts: Array) -> tuple[Array, Array]:
        j, k, q = self.logits.shape
        curvature, target = np.split(counts, [j * (k * q) ** 2])
        return curvature.reshape(j, k * q, k * q), target.reshape(j, k * q)
