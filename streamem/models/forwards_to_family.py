"""What a model says by asking its family: written once for every model whose parameters hold those of a family."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.ascent import with_rounding
from streamem.core.extrapolation import kept_signs
from streamem.core.faults import prefixed
from streamem.core.missing import Missing
from streamem.core.ports import FullFamily, Model
from streamem.core.stats import Stats

Array = NDArray[Any]

EXPONENTIAL = 8
"""What one costs in NumPy, in products."""


class ForwardsToFamily(Model):
    """A model whose parameters and statistics hold those of `family` under the name ``components``.

    Attributes
    ----------
    family : what a component emits
    n_components : K
    """

    family: FullFamily
    n_components: int
    _start: Any

    def starting_from(self, start: Any) -> Self:
        """This model with another way to split a sample for the first parameters: see `Mixture`."""
        model = copy.copy(self)
        model._start = start
        return model

    @property
    def allows_missing_values(self) -> bool:
        """Whether the family integrates over values that were not observed."""
        return self.integrates and self.family.allows_missing

    @property
    def missing(self) -> Missing:
        """What of a row may be NaN, and whether the family could be asked for more."""
        if self.allows_missing_values:
            return Missing.VALUES
        able = self.family.can_integrate
        if self.allows_missing_steps:
            return Missing.STEPS if able else Missing.STEPS_ALONE
        return Missing.NOTHING if able else Missing.NEVER

    @property
    def estimates(self) -> str:
        """What the family needs two rows to estimate."""
        return self.family.estimates

    def for_pass_of(self, params: Params, rows: int) -> Params:
        """Parameters with the number of rows of a pass: it decides what is worth compiling, or working out first."""
        return params.replace(rows=np.float64(rows))

    def products_a_row(self, n_features: int) -> float:
        """What a row costs, its exponentials included."""
        return EXPONENTIAL * self.n_components + super().products_a_row(n_features)

    def penalty(self, params: Params, stats: Stats) -> float:
        """The family's penalty, in nats."""
        return self.family.penalty(params.components, stats.components)

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Shortfall of the family, in nats."""
        return self.family.shortfall(old.components, new.components, self._components(stats))

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """The family's statistics, as if they had been taken at `new`."""
        components = self.family.rebase(stats.components, old.components, new.components)
        return stats if components is stats.components else stats.replace(components=components)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Counts of the model as counts, and the family's statistics as the family says."""
        components = self.family.project(stats.components, valid.components, previous.components)
        return kept_signs(stats.replace(components=valid.components), valid).replace(components=components)

    def reanchored(self, params: Params) -> Params:
        """The parameters, with the family about a better point of reference where the present one will not do."""
        components = self.family.reanchored(params.components)
        return params if components is params.components else params.replace(components=components)

    def _components(self, stats: Stats) -> Stats:
        """The family's statistics, of which it may have to know how they were rounded."""
        return with_rounding(stats.components, stats) if self.family.reads_rounding else stats.components

    def _family_faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What the family finds wrong."""
        return prefixed("components", self.family.faults(params.components, n_components, n_features))
