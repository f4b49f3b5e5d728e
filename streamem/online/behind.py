"""Columns of a stream's records that are no features: they stand behind these in every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.running.fitted import Shape

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Behind:
    """What records hold behind their features, such as a response, or the noise of each.

    Attributes
    ----------
    names : of the columns; without names, they are the last `count` of records without names
    count : how many columns
    shaped : from the shape of whole rows, that of the features
    again : from the shape of the features that were fitted, the shape for such rows
    possible : from features (n, d) and these (n, count) the rows (n,) that can be; None if the rules of features hold
    needed : what they can be, for dead letters
    categories : values of those that are text, in the order of their codes
    """

    names: tuple[str, ...]
    count: int
    shaped: Callable[[Shape], Shape]
    again: Callable[[Shape], Shape]
    possible: Callable[[Array, Array], Array] | None = None
    needed: str = ""
    categories: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def ordered(self, names: Sequence[str]) -> list[str]:
        """Names of all columns of a row, these last."""
        return [*(name for name in names if name not in self.names), *self.names]

    def wrong(self, x: Array) -> Array:
        """Which rows (n,) hold a value that cannot be."""
        if self.possible is None:
            return np.zeros(len(x), dtype=np.bool_)
        return np.asarray(~self.possible(x[:, : -self.count], x[:, -self.count :]))
