"""Statistics beyond those that rows gave: what of an extrapolation is kept, so that an M-step can take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Arrays
from streamem.core.stats import Stats

Array = NDArray[Any]

MOST_FALL = 16.0
"""By how many times a sum of weights, a count or a variance may fall in one extrapolation."""

HALVINGS = 6
"""Of the step of a component, before it stays where rows put it."""

TOTALS = ("rows", "weight", "log_likelihood", "rounding", "pairs")
"""Members of a model's statistics that are the same for all M-steps of a run, or say nothing about the parameters."""


def kept_signs(stats: Stats, valid: Stats) -> Stats:
    """Extrapolated statistics none of whose numbers has another sign than in `valid`, or falls below 1/16 of it.

    What is 0 in `valid`, because a component or a category has no rows, stays 0.

    >>> found = kept_signs(Stats(counts=[-3.0, 5.0, 1.0, -9.0]), Stats(counts=[1.6, 4.0, 0.0, -4.0]))
    >>> found.counts.tolist()
    [0.1, 5.0, 0.0, -9.0]
    """
    return Stats(**{name: _kept(value, valid[name]) for name, value in stats.items()})


def _kept(value: Any, valid: Any) -> Any:
    if isinstance(value, Arrays):
        return kept_signs(value, valid)  # type: ignore[arg-type]
    least = np.abs(valid) / MOST_FALL
    return np.where(valid > 0, np.maximum(value, least), np.where(valid < 0, np.minimum(value, -least), 0.0))


def shrunk(
    stats: Stats,
    valid: Stats,
    weights: tuple[Array, Array],
    possible: Callable[[Stats], NDArray[np.bool_]],
    together: bool = False,
) -> Stats:
    """Extrapolated statistics whose components go back towards `valid`, each as far as it has to.

    Parameters
    ----------
    stats, valid : whose first axis is the component
    weights : of the components in `stats` and in `valid`, (K,) each
    possible : statistics → (K,), which components rows could have given
    together : whether all components go back as far as the one that has to go farthest: they share something
    """
    step = _weighed_step(*weights)
    for _ in range(HALVINGS):
        step = np.full_like(step, step.min()) if together else step
        found = _blend(stats, valid, step)
        ok = possible(found)
        if ok.all():
            return found
        step = np.where(ok, step, step / 2)
    step = np.where(ok, step, 0.0)
    return _blend(stats, valid, np.full_like(step, step.min()) if together else step)


def _weighed_step(weight: Array, valid: Array) -> Array:
    """How much (K,) of a step leaves each weight at least 1/16 of what it was."""
    room, fall = valid * (1.0 - 1.0 / MOST_FALL), valid - weight
    return np.where(fall > room, room / np.where(fall > 0, fall, 1.0), 1.0)


def _blend(stats: Stats, valid: Stats, step: Array) -> Stats:
    """valid + step·(stats − valid), component by component."""
    return Stats(**{name: _blended(value, valid[name], step) for name, value in stats.items()})


def _blended(value: Any, valid: Any, step: Array) -> Any:
    if isinstance(value, Arrays):
        return _blend(value, valid, step)  # type: ignore[arg-type]
    own = np.shape(value)[:1] == step.shape
    share = step.reshape(-1, *[1] * (np.ndim(value) - 1)) if own else step.min()  # of arrays that all components share
    return valid + share * (value - valid)
