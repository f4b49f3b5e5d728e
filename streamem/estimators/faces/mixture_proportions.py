"""The face of `MixtureProportions`: likelihoods are given, so there are no attributes besides the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.face import Face
from streamem.families.known_likelihoods import KnownLikelihoods
from streamem.initialization import Start
from streamem.models.proportions import alike
from streamem.running.fitted import Shape

Array = NDArray[Any]


class MixtureProportionsFace(Face):
    """A face without attributes of the components."""

    names = ()
    title = "likelihoods in"

    def family(self, settings: Any, shape: Shape | None) -> KnownLikelihoods:
        """Likelihoods on their scale."""
        return KnownLikelihoods(settings.scale)

    def row_products(self, settings: Any, n_features: int) -> int:
        """Two products for each likelihood."""
        return 2 * n_features

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """An empty mapping: the weights are shown by the structure."""
        return {}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """A column for each weight."""
        k = len(attributes["weights_"])
        return Params(columns=np.arange(k), empty=np.zeros(k, dtype=np.bool_))

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Another number of columns than of components."""
        fits = np.shape(components.get("columns", ())) == (k,) and k == d
        return "" if fits else f"the file's columns do not fit {k} components of {d} columns"

    def is_given_wholly(self, settings: Any) -> bool:
        """Always: a start draws nothing."""
        return True

    def check_start(self, settings: Any, n_features: int) -> None:
        """Weights that are given are probabilities, one a column.

        Raises
        ------
        ParameterError : they are not
        """
        if settings.weights_init is None:
            return
        weights = np.asarray(settings.weights_init, dtype=np.float64)
        fits = weights.shape == (n_features,) and bool((weights >= 0).all())
        if not fits or not abs(weights.sum() - 1.0) <= 1e-6:
            raise ParameterError(
                f"weights_init has shape {weights.shape} and sums to {weights.sum():.6g}; ({n_features},) numbers >= 0 "
                "that sum to 1 are needed, one for each column"
            )

    def starts(self) -> Mapping[str, Start]:
        """Equal weights."""
        return {"equal": alike}

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The column of each component."""
        names = getattr(settings, "feature_names_in_", None)
        columns = np.asarray(components.columns, dtype=np.intp).tolist()
        return [f"column {c}" if names is None else f"column {c} {str(names[c])!r}" for c in columns]

    def key(self, settings: Any) -> dict[str, Any]:
        """The scale and the given weights."""
        given = None if settings.weights_init is None else np.asarray(settings.weights_init).tolist()
        return {"scale": settings.scale, "weights_init": repr(given)}
