"""Step sizes of online EM: what share of the statistics a mini-batch replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamem.core.errors import ParameterError


class StepSize(Protocol):
    """γ in s ← (1 − γ)·s + γ·ŝ.

    Examples
    --------
    >>> from streamem import GaussianMixture
    >>> gm = GaussianMixture(1)
    >>> gm.partial_fit([[0.0], [1.0], [3.0], [4.0]], step=lambda weight, seen: weight / (seen + weight)).means_.tolist()
    [[2.0]]
    """

    def __call__(self, weight: float, seen: float) -> float:
        """γ in (0, 1] for a batch of `weight` rows after `seen` rows. Counted in rows, a replay gives the same bits."""


@dataclass(frozen=True)
class PowerLaw:
    """γ = (m / (n + m))^exponent for a batch of m rows after n: for equal batches t^(−exponent), all rows in the end.

    Converges for exponents in (½, 1] (Cappé & Moulines 2009, assumption 1d); 1 weighs all rows alike, smaller ones
    forget a poor start sooner.

    Examples
    --------
    >>> PowerLaw(1.0)(100, seen=300)
    0.25
    """

    exponent: float = 0.7

    def __post_init__(self) -> None:
        if not 0.5 < self.exponent <= 1:
            raise ParameterError(f"the exponent of a power law is {self.exponent}; it must be in (0.5, 1]")

    def __call__(self, weight: float, seen: float) -> float:
        """γ of a batch."""
        return float((weight / (seen + weight)) ** self.exponent)


@dataclass(frozen=True)
class HalfLife:
    """γ = 1 − 2^(−m / rows): after `rows` rows, what was learned before counts half. For data that drifts.

    Examples
    --------
    >>> HalfLife(100)(100, seen=300)
    0.5
    """

    rows: float

    def __post_init__(self) -> None:
        if (
            isinstance(self.rows, bool)
            or not isinstance(self.rows, int | float | np.integer | np.floating)
            or not self.rows > 0
        ):
            raise ParameterError(f"half_life is {self.rows!r}; it must be a positive number of rows")

    def __call__(self, weight: float, seen: float) -> float:
        """γ of a batch."""
        return float(1.0 - 2.0 ** (-weight / self.rows))
