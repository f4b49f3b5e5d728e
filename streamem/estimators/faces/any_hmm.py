"""The face of `HMM`: params_, the parameters of a user's own family as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.ports import Family
from streamem.estimators.faces.emissions import EmissionFace
from streamem.estimators.family_facts import settings_of
from streamem.estimators.in_words import in_short
from streamem.running.fitted import Shape


class AnyHMMFace(EmissionFace):
    """params_, of any family."""

    names = ("params_",)
    letters = MappingProxyType({"params_": "e"})
    keyed = ()
    objects = frozenset({"family"})

    def family(self, settings: Any, shape: Shape | None) -> Family:
        """The user's."""
        family: Family = settings.family
        return family

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The parameters themselves."""
        return {"params_": components}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """The parameters themselves."""
        params: Params = attributes["params_"]
        return params

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """The given parameters."""
        return given.get("params_", components)

    def check_start(self, settings: Any, n_features: int) -> None:
        """Accept any start: the shapes of a user's family are its own."""

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of every array that has a row a state."""
        k = int(settings.n_components)
        leaves = {name: leaf for name, leaf in components.flatten().items() if np.shape(leaf)[:1] == (k,)}
        return ["; ".join(f"{name} {in_short(leaf[i], 4)}" for name, leaf in leaves.items()) for i in range(k)]

    def key(self, settings: Any) -> dict[str, Any]:
        """The family and its settings."""
        return {"family": settings_of(settings.family)}
