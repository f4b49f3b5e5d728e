"""The face of `BernoulliHMM`: emissionprob_, the probabilities of 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.emissions import EmissionFace, matrix_of
from streamem.estimators.in_words import in_short
from streamem.families import Bernoulli
from streamem.initialization import DISCRETE_STARTS, Start
from streamem.running.fitted import Shape


class BernoulliHMMFace(EmissionFace):
    """emissionprob_ (K, d)."""

    names = ("emissionprob_",)
    keyed = names
    letters = MappingProxyType({"emissionprob_": "e"})

    def family(self, settings: Any, shape: Shape | None) -> Bernoulli:
        """Values of 0 or 1."""
        return Bernoulli()

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The probabilities."""
        return {"emissionprob_": np.array(components.probabilities)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the probabilities."""
        values = matrix_of(settings, attributes, "emissionprob_", shape)
        if not ((values >= 0).all() and (values <= 1).all()):
            raise ParameterError(
                f"emissionprob_ holds values from {values.min()} to {values.max()}; chances lie within [0, 1]"
            )
        return Params(probabilities=values, empty=np.zeros(len(values), dtype=np.bool_))

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """The given probabilities."""
        return self.rebuilt(settings, given, Shape(np.shape(components.probabilities)[1])) if given else components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shape of the probabilities."""
        return {"emissionprob_": (k, d)}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the probabilities."""
        return int(matrix_of(settings, attributes, "emissionprob_").shape[1])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Probabilities of another shape."""
        fits = np.shape(components.get("probabilities", ())) == (k, d)
        return "" if fits else f"the file's probabilities do not fit {k} states of {d} features"

    def starts(self) -> Mapping[str, Start]:
        """At random too."""
        return DISCRETE_STARTS

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The probabilities of each state."""
        return [f"probabilities {in_short(values)}" for values in components.probabilities]
