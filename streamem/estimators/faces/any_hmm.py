"""The face of `HMM`: params_, the parameters of a user's own family as they are, also as a start."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from streamem.core.arrays import Params
from streamem.estimators.faces.emissions import EmissionFace
from streamem.estimators.faces.family import FamilyFace


class AnyHMMFace(FamilyFace, EmissionFace):
    """params_, of any family."""

    letters = MappingProxyType({"params_": "e"})
    keyed = ()

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """The given parameters."""
        return given.get("params_", components)

    def check_start(self, settings: Any, n_features: int) -> None:
        """Accept any start: the shapes of a user's family are its own."""
