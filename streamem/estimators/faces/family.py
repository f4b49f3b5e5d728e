"""The face of estimators that take any family: its parameters are shown as they are, under ``params_``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.ports import Family
from streamem.estimators.faces.face import Face
from streamem.estimators.family_facts import settings_of
from streamem.estimators.family_words import family_of_text
from streamem.estimators.in_words import in_short
from streamem.running.fitted import Shape

MARKS = "empty", "floored"
"""What is told of a component only where it is so."""
SHOWN = 4
"""Numbers of an array that are told in words."""


class FamilyFace(Face):
    """params_, the `Params` of the family that the user passed as ``family=``."""

    names = ("params_",)
    objects = frozenset({"family"})

    def family(self, settings: Any, shape: Shape | None) -> Family:
        """The family that the user passed, or that the user's words name."""
        asked: Family | str = settings.family
        return family_of_text(asked) if isinstance(asked, str) else asked

    def is_plain(self, settings: Any) -> bool:
        """Whether the family is named in words."""
        return isinstance(settings.family, str)

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The very parameters, which are immutable."""
        return {"params_": components}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """The parameters that the user set."""
        params: Params = attributes["params_"]
        return params

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of every array that has a row a component, and the marks that it has."""
        k = int(settings.n_components)
        leaves = {name: leaf for name, leaf in components.flatten().items() if np.shape(leaf)[:1] == (k,)}
        marks = [name for name in leaves if name.rpartition(".")[2] in MARKS]
        told = [name for name in leaves if name not in marks and not _is_layout(name, leaves)]
        numbers = ([f"{name} {in_short(leaves[name][i], SHOWN)}" for name in told] for i in range(k))
        return [
            "; ".join([*own, *(name for name in marks if np.any(leaves[name][i]))]) for i, own in enumerate(numbers)
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """Class and settings of the family."""
        return {"family": settings_of(self.family(settings, None))}


def _is_layout(name: str, leaves: Mapping[str, Any]) -> bool:
    """Whether an array only says where the probabilities of each column begin."""
    within, dot, own = name.rpartition(".")
    return own == "starts" and f"{within}{dot}probabilities" in leaves
