"""`Around`: a family that is another one in everything that a subclass does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.completing import as_written
from streamem.core.free_form import FreeForm
from streamem.core.ports import Kernel, Mixing
from streamem.core.slopes import Slopes
from streamem.core.stats import Stats
from streamem.families.with_inner import WithInner

Array = NDArray[Any]


class Around(WithInner):
    """A family with the densities, statistics and names of `family`, and an M-step of its own."""

    @property
    def told(self) -> str:
        """What the user calls the family, for messages."""
        return type(as_written(self.family)).__name__

    @property
    def hides(self) -> str:  # type: ignore[override]
        """What components of the family hide besides."""
        return self.family.hides

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Any, x: Array) -> Array:
        """The family's log-densities (n, K), in nats."""
        return self.family.log_prob(params, x)

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """The family's statistics of x, weighted by resp (n, K)."""
        return self.family.stats(params, x, resp)

    # --- before the first parameters ---------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params | None:
        """The family's start."""
        return self.family.start(x, weight, n_components)

    @property
    def has_start(self) -> bool:
        """Whether the family has a start."""
        return self.family.has_start

    @property
    def lag(self) -> int:
        """How many earlier rows the family looks back on."""
        return int(getattr(self.family, "lag", 0))

    # --- values that were not observed -------------------------------------------------------------------------------

    def filled(self, params: Any, x: Array, resp: Array) -> Array:
        """The family's conditional means in place of NaN."""
        return self.family.filled(params, x, resp)

    def drawn_for_missing(self, params: Any, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """The family's draws in place of NaN."""
        return self.family.drawn_for_missing(params, x, component, rng)

    # --- how it is computed ------------------------------------------------------------------------------------------

    def block_rows(self, params: Any) -> int:
        """The family's."""
        return self.family.block_rows(params)

    def kernel(self, params: Any, dtype: DTypeLike = np.float64) -> Kernel:
        """The family's kernel."""
        return self.family.kernel(params, dtype)

    def screen(self, params: Any, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0) -> Mixing | None:
        """The family's screen."""
        return self.family.screen(params, dtype, pairs_per_row, rows)

    def arithmetic(self, params: Any, dtype: DTypeLike = np.float64) -> str:
        """The family's arithmetic, in words."""
        return self.family.arithmetic(params, dtype)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """The family's."""
        return self.family.workspace_bytes(n_components, n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """The family's."""
        return self.family.statistics_bytes(n_components, n_features)

    @property
    def takes_row_noise(self) -> bool:
        """False: the arithmetic for noise of rows knows nothing of what is around a family."""
        return False

    # --- what the M-step does ----------------------------------------------------------------------------------------

    def penalty(self, params: Any, stats: Stats) -> float:
        """The family's penalty, in nats."""
        return self.family.penalty(params, stats)

    def shortfall(self, old: Any, new: Any, stats: Stats) -> float:
        """The family's shortfall, in nats."""
        return self.family.shortfall(old, new, stats)

    @property
    def reads_rounding(self) -> bool:
        """Whether the family does."""
        return self.family.reads_rounding

    def degenerate(self, params: Any) -> Mapping[str, list[int]]:
        """The family's interventions."""
        return self.family.degenerate(params)

    def no_maximum(self, params: Any, log_likelihood: float, weight: float) -> str:
        """What the family says."""
        return self.family.no_maximum(params, log_likelihood, weight)

    def rebase(self, stats: Stats, old: Any, new: Any) -> Stats:
        """The family's statistics as if they had been taken at `new`."""
        return self.family.rebase(stats, old, new)

    def reanchored(self, params: Any) -> Any:
        """The family's parameters about a better anchor."""
        return self.family.reanchored(params)

    def project(self, stats: Stats, valid: Stats, previous: Any) -> Stats:
        """Extrapolated statistics as the family can take them."""
        return self.family.project(stats, valid, previous)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The family's."""
        return self.family.parameter_names

    def holds(self, names: frozenset[str]) -> bool:
        """Refuse every name: subclasses say what goes."""
        return False

    def ties(self, names: frozenset[str]) -> bool:
        """Refuse every name: subclasses say what goes."""
        return False

    def pooled(self, stats: Stats) -> Stats:
        """The family's statistics summed over components."""
        return self.family.pooled(stats)

    def with_values(self, params: Any, values: Mapping[str, Array]) -> Params:
        """The family's parameters with these values."""
        return self.family.with_values(params, values)

    # --- words, and what is asked of parameters ----------------------------------------------------------------------

    @property
    def estimates(self) -> str:
        """What the family needs two rows to estimate."""
        return self.family.estimates

    @property
    def overflows(self) -> str:
        """Which values the family has no log-density for."""
        return self.family.overflows

    def free_parameters(self, params: Any) -> int:
        """The family's."""
        return self.family.free_parameters(params)

    def free_of(self, params: Any, name: str) -> int:
        """The family's, of one parameter."""
        return self.family.free_of(params, name)

    def free_form(self, params: Any, n_components: int) -> FreeForm:
        """The family's numbers."""
        return self.family.free_form(params, n_components)

    def from_free_form(self, values: Mapping[str, Array], params: Any) -> Params:
        """The family's parameters that other numbers tell."""
        return self.family.from_free_form(values, params)

    def slopes(self, params: Any) -> Slopes | None:
        """The family's."""
        return self.family.slopes(params)

    def faults(self, params: Any, n_components: int, n_features: int) -> list[str]:
        """What the family finds wrong."""
        return self.family.faults(params, n_components, n_features)

    def draw(self, params: Any, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits."""
        return self.family.draw(params, component, count, rng)

    @property
    def can_draw(self) -> bool:
        """Whether the family can."""
        return self.family.can_draw

    def few_log_prob(self, params: Any, x: Array) -> Array | None:
        """The family's answer for few rows."""
        return self.family.few_log_prob(params, x)

    def far_log_prob(self, params: Any, x: Array) -> Array | None:
        """The family's answer for far rows."""
        return self.family.far_log_prob(params, x)

    def far_order(self, params: Any, x: Array) -> Array | None:
        """The family's order of components for far rows."""
        return self.family.far_order(params, x)
