"""The face of `PoissonHMM`: lambdas_."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.emissions import EmissionFace, matrix_of
from streamem.estimators.faces.priors import prior_values
from streamem.estimators.in_words import in_short
from streamem.families import Poisson
from streamem.families.prior_poisson import PriorPoisson
from streamem.running.fitted import Shape


class PoissonHMMFace(EmissionFace):
    """lambdas_ (K, d), the rates."""

    names = ("lambdas_",)
    keyed = names
    letters = MappingProxyType({"lambdas_": "l"})
    priors = ("lambdas_prior", "lambdas_weight")

    def family(self, settings: Any, shape: Shape | None) -> Poisson:
        """Counts, with gamma priors of the rates once the number of features is known."""
        if shape is None:
            return Poisson()
        sizes = (int(settings.n_components), shape.features)
        alpha, beta = (prior_values(getattr(settings, name), name, sizes, least=0.0) for name in self.priors)
        return PriorPoisson(alpha, beta) if alpha.any() or beta.any() else Poisson()

    def free_family(self, settings: Any, shape: Shape | None) -> Poisson:
        """Counts."""
        return Poisson()

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The rates."""
        return {"lambdas_": np.array(components.rates)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the rates."""
        values = matrix_of(settings, attributes, "lambdas_", shape)
        if not (values >= 0).all():
            raise ParameterError(
                f"lambdas_ holds values from {values.min()} to {values.max()}; rates are finite numbers >= 0"
            )
        return Params(rates=values, empty=np.zeros(len(values), dtype=np.bool_))

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """The given rates."""
        return self.rebuilt(settings, given, Shape(np.shape(components.rates)[1])) if given else components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shape of the rates."""
        return {"lambdas_": (k, d)}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the rates."""
        return int(matrix_of(settings, attributes, "lambdas_").shape[1])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Rates of another shape."""
        fits = np.shape(components.get("rates", ())) == (k, d)
        return "" if fits else f"the file's rates do not fit {k} states of {d} features"

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The rates of each state."""
        return [f"rates {in_short(values)}" for values in components.rates]
