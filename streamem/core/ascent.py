"""What EM guarantees of an M-step: by how much it may lower the log-likelihood at most."""

from __future__ import annotations

from typing import Any

from streamem.core.numerics import EPS
from streamem.core.ports import Model
from streamem.core.stats import Stats

SAFETY = 8.0
"""Rounding errors of a penalty are taken to stay within so many units."""


def permitted_fall(model: Model, old: Any, new: Any, stats: Stats) -> float:
    """How far the log-likelihood may fall from `old` to `new`, in nats, by an M-step on statistics taken at `old`.

    The M-step raises Q − R (R: the penalty) but for a shortfall s. With q the responsibilities,
    ℓ(θ') − ℓ(θ) ≥ Q(q, θ') − Q(q, θ) ≥ R(q, θ') − R(q, θ) − s.
    """
    missed = model.shortfall(old, new, stats)
    before, after = model.penalty(old, stats), model.penalty(new, stats)
    rounding = SAFETY * EPS * (abs(before) + abs(after))  # beside weights of 1e-20 a prior's is all there is
    return max(0.0, before - after + missed + rounding)


def with_rounding(components: Stats, of: Stats) -> Stats:
    """Statistics of a family with the bound on the rounding of a log-density of the model that they are part of."""
    known = float(of.rounding) / float(of.weight) if "rounding" in of and float(of.weight) > 0 else 0.0
    return components.replace(rounding=known)
