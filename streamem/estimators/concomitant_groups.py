"""`CONCOMITANT_GROUPS`: rows of one identifier belong together, and variables of it say to which component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.estimators.groups import GROUPS, Groups
from streamem.estimators.named_columns import concomitants
from streamem.estimators.shifted_weights import ShiftedWeights
from streamem.models.concomitant_groups import ConcomitantGroups
from streamem.running.fitted import Fitted

Array = NDArray[Any]


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
