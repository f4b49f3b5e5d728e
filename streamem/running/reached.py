"""How many starts came to the best value: whether a maximum may be trusted, as far as starts can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FINEST = 1e-7
"""Nats per unit of weight within which ends are the same maximum, however small the tolerance: EM stops short of it."""


class LocalMaximumWarning(UserWarning):
    """A better maximum may have been missed: only one of several starts reached the best value."""


class NoMaximumWarning(UserWarning):
    """A fit came to rest where the likelihood has no maximum, or no single one: `fit` says of which parameters."""


@dataclass(frozen=True)
class Reached:
    """The ends of several starts, or of short runs of EM on a sample.

    Attributes
    ----------
    reached : how many came to the best value
    ended : how many were compared: those that ran to their end
    given_up : how many were given up before, by halving
    within : nats per unit of weight within which values count as the best: the tolerance of the fit
    behind : by how much the best of the others is lower, in nats per unit of weight; None if there are none
    """

    reached: int
    ended: int
    given_up: int = 0
    within: float = FINEST
    behind: float | None = None

    @property
    def is_lone(self) -> bool:
        """Whether several ran to their end, and one of them alone reached the best value."""
        return self.reached == 1 and self.behind is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reached:
        """The inverse of `to_dict`."""
        return cls(**values)

    def words(self, what: str) -> str:
        """One line of a report: "3 of 8 starts reached the best value (within 0.001 nats a row)"."""
        told = [f"within {self.within:.3g} nats a row"]
        if self.behind is not None:
            told.append(f"the best of the others is {self.behind:.3g} lower")
        if self.given_up:
            told.append(f"{self.given_up} more were given up on the way")
        return f"{self.reached} of {self.ended} {what} reached the best value ({'; '.join(told)})"


def reached_by(ends: Sequence[float], given_up: int = 0, tol: float = 0.0) -> Reached | None:
    """How many of these ends, in nats per unit of weight, are the best; None where there are none."""
    if not ends:
        return None
    best, within = max(ends), max(tol, FINEST)
    others = [end for end in ends if not end >= best - within]
    behind = None if not others else best - max(others)
    return Reached(len(ends) - len(others), len(ends), given_up, within, behind)


def doubts(starts: Reached | None, short_runs: Reached | None) -> str:
    """Why a fit may have missed a better maximum, and what to do; "" where nothing says so."""
    told = [
        f"only 1 of {known.ended} {what} reached the best value, the next is {known.behind:.3g} nats a row lower"
        for known, what in ((starts, "starts"), (short_runs, "short runs on the sample"))
        if known is not None and known.is_lone
    ]
    if not told:
        return ""
    return f"{'; '.join(told)}: there may be a better maximum. Raise n_init and compare, or try fewer components"
