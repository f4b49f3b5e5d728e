"""Priors of a family's parameters, weighed against the data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError

Array = NDArray[Any]


class Weighed:
    """A family with a prior, which counts whole for statistics of all rows, and in proportion for averages.

    Attributes
    ----------
    identity : what distinguishes this prior from others
    total_weight : Σ weights of the rows that the prior is weighed against; a fit finds it in a pass beforehand
    """

    identity: str
    total_weight: float | None = None

    @property
    def is_surveyed(self) -> bool:
        """Whether a survey has found the weight of the data."""
        return self.total_weight is not None

    def survey(self, x: Array, weight: Array | None) -> Array:
        """The weight of the rows x (n, d) that are not missing: (1,)."""
        present = ~np.isnan(x).all(axis=1)
        return np.array([present.sum() if weight is None else weight[present].sum()], dtype=np.float64)

    def surveyed(self, found: Sequence[Array]) -> Self:
        """The family that knows the weight of all chunks together."""
        return self.weighed(float(np.sum(found)) or None)

    def weighed(self, total_weight: float | None) -> Self:
        """The family with its prior weighed against so much data."""
        known = copy.copy(self)
        known.total_weight = total_weight
        return known

    def share(self, weight: Array) -> float:
        """Which share of the data statistics of these weights (K,) stand for.

        Raises
        ------
        ParameterError : no survey has found how much data there is
        """
        if self.total_weight is None:
            raise ParameterError(
                "a prior is weighed against the data, of which nobody has told how much there is: fit first, or leave "
                "the priors of the emissions out"
            )
        return float(np.sum(weight)) / self.total_weight
