"""`CONCOMITANT_GROUPS`: rows of one identifier belong together, and variables of it say to which component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import ChunkRef, Family, PassTask
from streamem.estimators.groups import GROUPS, Groups
from streamem.estimators.named_columns import concomitants
from streamem.estimators.shifted_weights import DesignTask, ShiftedWeights
from streamem.models.concomitant_groups import ConcomitantGroups
from streamem.running.fitted import Fitted

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class EndsTask(DesignTask):
    """The task that finds the design of a chunk, and the concomitants of groups that it cuts."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The packed design, and those of the first row (p,), NaN where a group begins there, and of the last (p,)."""
        z = chunk.covariates
        assert z is not None  # of a model that asks for it
        goes_on = chunk.sequences is not None and chunk.sequences.opened
        nothing = np.full(z.shape[1], np.nan)
        ends = (z[0] if goes_on and len(z) else nothing, z[-1] if len(z) else nothing)
        return np.concatenate([super().__call__(chunk, ref), *ends])


class ConcomitantGroupsOfRows(ShiftedWeights, Groups):
    """p(group) = Σ_k π_k(z) Π_rows p_k(x), π_k(z) = softmax(α_k + z·γ_k); `weights_` (K,) are shares of groups."""

    least_formula = "2·K·(d + 2 + concomitants)"

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(d + 2 + concomitants)."""
        return 2 * int(self.count(settings)) * (n_features + 2 + len(concomitants(settings)))

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> ConcomitantGroups:
        """The mixture of groups, and what its weights depend on."""
        start, box = settings.face.starts()[settings.init_params], None if fitted is None else fitted.box
        return ConcomitantGroups(family, int(self.count(settings)), start, len(concomitants(settings)), box)

    def survey(self) -> PassTask[Array]:
        """The design, and what the first and last rows of chunks hold."""
        return EndsTask()

    def require_shared(self, settings: Any, ends: Sequence[Array]) -> None:
        """Refuse a group whose concomitants differ between the chunks that hold it.

        Raises
        ------
        DataError : naming the concomitant and both values
        """
        held = [one.reshape(2, -1) for one in ends if not np.isnan(one[-1])]  # of chunks with rows
        for (_, before), (after, _) in pairwise(held):
            if (differs := np.flatnonzero(~np.isnan(after) & (after != before))).size:
                c = int(differs[0])
                raise DataError(
                    f"rows of one group, which several chunks hold, have {before[c]:.6g} and {after[c]:.6g} as "
                    f"concomitant {concomitants(settings)[c]!r}; weights of a group depend on what all its rows share"
                )

    def refuse(self, settings: Any, what: str) -> None:
        """Streams."""
        if what == "a stream":
            raise ParameterError("concomitant excludes a stream: pass batches of whole groups to partial_fit")

    def drawn_groups(
        self, settings: Any, fitted: Fitted, lengths: Array, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Refuse: nobody says what the concomitants of drawn groups are."""
        raise ParameterError(
            "weights depend on concomitant variables, which have no distribution here, so that no groups are drawn: "
            "leave concomitant out"
        )


CONCOMITANT_GROUPS = ConcomitantGroupsOfRows()


class OfGroups:
    """The structure of `GroupedMixture`: with concomitants where it names such."""

    def __get__(self, estimator: Any, kind: type) -> Any:
        return GROUPS if getattr(estimator, "concomitant", None) is None else CONCOMITANT_GROUPS
