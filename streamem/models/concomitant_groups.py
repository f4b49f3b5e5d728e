"""A mixture of groups whose weights depend on concomitant variables of the group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError
from streamem.core.faults import missing
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.models.concomitants import EXPANSION, Concomitants
from streamem.models.emissions import Emissions
from streamem.models.grouped_mixture import GroupedMixture, Tally
from streamem.models.logit_moves import MoveSums, log_moves
from streamem.models.mixture import Responsibilities
from streamem.models.steps import Steps

Array = NDArray[Any]


class ConcomitantGroups(GroupedMixture):
    """p(group) = Σ_k π_k(z) Π_rows p_k(x), with π_k(z) = softmax(α_k + z·γ_k) of z that all rows of a group share.

    Parameters
    ----------
    family, n_components, start : as in `GroupedMixture`
    n_covariates : p, columns of `Chunk.covariates`
    box : (2, p) smallest and largest concomitants of all rows, or None for those of the sample of the start

    Notes
    -----
    Parameters and statistics: those of `GroupedMixture`, and those that `ConcomitantMixture` has besides. A group is
    counted where it begins, as its responsibilities are. A group without rows in the chunk has the average weights.
    """

    def __init__(
        self, family: Family, n_components: int, start: Responsibilities, n_covariates: int, box: Array | None = None
    ) -> None:
        super().__init__(family, n_components, start)
        self.concomitants = Concomitants(n_components, n_covariates, box)

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The start of a mixture of groups, whose weights are the same in all groups."""
        return self.concomitants.begun(super().init(sample, rng), sample)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """The anchor, and equal weights in all groups."""
        params = super().anchor_only(sample)
        return None if params is None else self.concomitants.begun(params, sample)

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Shares of the groups, a safe Newton step for the logits; the family maximizes the rest."""
        return super().m_step(stats, previous).replace(**self.concomitants.maximized(stats, previous))

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Counts as counts; the last expansion where the curvature of the extrapolated one is not such."""
        beside = {name: valid[name] for name in EXPANSION}
        found = super().project(stats.replace(**beside), valid, previous)
        return found.replace(**self.concomitants.plausible(stats, valid))

    def workspace_bytes(self, n_features: int) -> int:
        """The workspace of groups, and of their concomitants, products and spreads."""
        return super().workspace_bytes(n_features) + self.concomitants.workspace_bytes

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics of a mixture of groups, and of the expansion."""
        return super().statistics_bytes(n_features) + self.concomitants.statistics_bytes

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """Components that concomitants separate, and what the family says."""
        return self.concomitants.no_maximum(params, weight) or super().no_maximum(params, log_likelihood, weight)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Weights that are none, logits of other shapes, and what the family finds wrong."""
        if found := missing(params, ("weights", "components", "logits", "concomitant_box")):
            return found
        return self.concomitants.faults(params) + super().faults(params, n_components, n_features)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _at_once(self, params: Params, emissions: Emissions, steps: Steps, message: Boundary) -> slice:
        """Give no groups to kernels, which know weights that are the same in all."""
        return slice(0, 0)

    def _log_weights(self, params: Params, chunk: Chunk, steps: Steps) -> Array:
        return self.concomitants.log_weights(params, self._rows(params, chunk, steps))

    def _tally(self, params: Params, chunk: Chunk, steps: Steps) -> Tally:
        return _Shifts(np.asarray(params.logits), self._rows(params, chunk, steps), self.concomitants)

    def _rows(self, params: Params, chunk: Chunk, steps: Steps) -> Array:
        """ũ (g, q) of every group, NaN of one without rows.

        Raises
        ------
        DataError : rows of one group differ
        """
        every = self.concomitants.rows(params, chunk)
        starts, stops = steps.spans[:, 0], steps.spans[:, 1]
        held = stops > starts
        out = np.full((len(starts), every.shape[1]), np.nan)
        out[held] = every[starts[held]]
        if len(every):
            self._require_constant(chunk, steps)
        return out

    def _require_constant(self, chunk: Chunk, steps: Steps) -> None:
        z = chunk.covariates
        assert z is not None  # as `Concomitants.rows` has seen
        lengths = steps.spans[:, 1] - steps.spans[:, 0]
        rows = np.repeat(steps.spans[:, 0], lengths)
        inside = rows + np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        differs = (z[inside] != z[rows]).any(axis=1)
        if differs.any():
            row, first = int(inside[np.argmax(differs)]), int(rows[np.argmax(differs)])
            column = int(np.argmax(z[row] != z[first]))
            raise DataError(
                f"rows {first} and {row} of the chunk are of one group, and its concomitant {column} is "
                f"{z[first, column]:.6g} and {z[row, column]:.6g}; weights of a group depend on what all its rows share"
            )


class _Shifts(Tally):
    """The expansion of the logits, over groups."""

    def __init__(self, logits: Array, rows: Array, concomitants: Concomitants) -> None:
        self._logits, self._rows, self._concomitants = logits[None], rows, concomitants
        self._sums = MoveSums(self._logits)

    def add(self, groups: slice, counted: Array) -> None:
        """Count those of which concomitants are known."""
        rows = self._rows[groups]
        known = ~np.isnan(rows).any(axis=1)
        self._sums.add(counted[known][:, None], log_moves(self._logits, rows[known]), rows[known])

    def told(self) -> dict[str, Array]:
        """curvature and target."""
        return self._concomitants.told(self._sums)
