"""Independent categorical variables of which some tables are given and stay."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.categorical import Categorical

Array = NDArray[Any]


class PartlyFixedCategorical(Categorical):
    """Categorical variables whose M-step leaves some tables as they were before it.

    Parameters
    ----------
    n_categories, prior, total_weight, missing : as in `Categorical`
    kept : pairs (component, column) of the tables that stay
        The first M-step, which has nothing before it, estimates them like all others: put them into its result.
    least : of each column, the fewest categories that a survey may find, or () for no such bound
        For categories that the data of a fit need not hold.

    Notes
    -----
    Parameters are those of `Categorical`. Given tables and estimated ones share no parameter, so the M-step is the
    maximizer among the parameters that it may choose.
    """

    def __init__(
        self,
        n_categories: int | Sequence[int] | None = None,
        prior: float = 1.0,
        total_weight: float | None = None,
        missing: bool = False,
        kept: Sequence[tuple[int, int]] = (),
        least: Sequence[int] = (),
    ) -> None:
        super().__init__(n_categories, prior, total_weight, missing)
        self.kept = tuple((int(component), int(column)) for component, column in kept)
        self.least = tuple(int(size) for size in least)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Weighted shares of every code, but for the tables that are kept."""
        found = super().maximize(stats, previous)
        if previous is None or not self.kept:
            return found
        table, bounds = np.array(found.probabilities), list(pairwise(np.asarray(found.starts).tolist()))
        for component, column in self.kept:
            own = slice(*bounds[column])
            table[component, own] = previous.probabilities[component, own]
        return found.replace(probabilities=table)

    def surveyed(self, found: Sequence[Array]) -> Categorical:
        """The family with the categories that all chunks hold together, at least `least` of each column."""
        family = super().surveyed(found)
        if not self.least or self.n_categories is not None:
            return family
        sizes = family._sizes(len(self.least))
        return family._with(n_categories=tuple(map(max, sizes, self.least)))

    def free_parameters(self, params: Params) -> int:
        """Probabilities of a column sum to 1; those of kept tables are not free."""
        sizes = np.diff(np.asarray(params.starts))
        return super().free_parameters(params) - sum(int(sizes[column]) - 1 for _, column in self.kept)
