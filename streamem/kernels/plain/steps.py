"""What a block of rows means to each arithmetic, in NumPy: the counterpart of `kernels.steps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]

FINE = -1
"""The position of a value that cannot be, where there is none."""


class PlainSteps(NamedTuple):
    """The steps for one kind of values.

    Attributes
    ----------
    load : (own, x (b, d)) → position of the first value that cannot be or `FINE`, and the rows as the others take them
    scores : (own, rows) → log-densities (at least K, b), without terms that are common to all components
    add : (own, rows, posterior (K, b)) adds statistics
    """

    load: Callable[[Any, Array], tuple[int, Any]]
    scores: Callable[[Any, Any], Array]
    add: Callable[[Any, Any, Array], None]


_STEPS: dict[type, PlainSteps] = {}


def implement(kind: type, steps: PlainSteps) -> None:
    """Say what the steps are for a kind of NamedTuple."""
    _STEPS[kind] = steps


def steps_of(own: Any) -> PlainSteps:
    """The steps of such values."""
    return _STEPS[type(own)]
