"""The face of `CategoricalHMM`: the probabilities of the symbols of every column, one column beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.emissions import EmissionFace
from streamem.estimators.in_words import in_short
from streamem.families import Categorical
from streamem.initialization import DISCRETE_STARTS, Start
from streamem.running.fitted import Shape

Array = NDArray[Any]


class CategoricalHMMFace(EmissionFace):
    """probabilities_ (K, ΣV) and n_categories_ (d,), which `CategoricalHMM.emissionprob_` shows by column."""

    names = ("probabilities_", "n_categories_")
    letters = MappingProxyType({"emissionprob_": "e"})
    keyed = ("probabilities_",)

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> Categorical:
        """Symbols of every column."""
        return Categorical(settings.n_categories, settings.emissionprob_prior)

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Probabilities, and how many belong to each column."""
        sizes = np.diff(np.asarray(components.starts)).astype(np.int64)
        return {"probabilities_": np.array(components.probabilities), "n_categories_": sizes}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From probabilities and numbers of categories."""
        k, d = int(settings.n_components), None if shape is None else shape.features
        values, sizes = np.asarray(attributes["probabilities_"], dtype=np.float64), attributes["n_categories_"]
        if len(values) != k or d not in (None, len(sizes)):
            raise ParameterError(
                f"emissionprob_ has {len(values)} states and {len(sizes)} columns; {k} and {d} are needed"
            )
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Params(probabilities=values, starts=starts, empty=np.zeros(k, dtype=np.bool_))

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """The given probabilities."""
        return self.rebuilt(settings, given, Shape(len(components.starts) - 1)) if given else components

    def given(self, settings: Any) -> dict[str, Any]:
        """Attributes that a user gave: both, where `emissionprob_` is set and not to be made anew."""
        return {name: getattr(settings, name) for name in self.names} if super().given(settings) else {}

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether `emissionprob_` is given."""
        return bool(self.given(settings))

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The number of columns of symbols."""
        return len(attributes["n_categories_"])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Other numbers of states, columns or symbols."""
        starts = np.asarray(components.get("starts", ()))
        fits = starts.shape == (d + 1,) and np.shape(components.probabilities) == (k, int(starts[-1]))
        if not fits or (np.diff(starts) < 1).any():
            return f"the file's probabilities do not fit {k} states of {d} columns"
        return ""

    # --- starts ------------------------------------------------------------------------------------------------------

    def starts(self) -> Mapping[str, Start]:
        """At random too."""
        return DISCRETE_STARTS

    # --- in words ----------------------------------------------------------------------------------------------------

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The probabilities of each state."""
        return [f"probabilities {in_short(values)}" for values in components.probabilities]

    def key(self, settings: Any) -> dict[str, Any]:
        """Numbers of categories and the prior."""
        sizes = None if settings.n_categories is None else np.asarray(settings.n_categories).tolist()
        return {"n_categories": repr(sizes), "prior": float(settings.emissionprob_prior)}


def columns_of(probabilities: Array, n_categories: Array) -> Any:
    """(K, V) probabilities of the symbols of one column, or a list of such arrays."""
    columns = np.split(probabilities, np.cumsum(n_categories)[:-1], axis=1)
    return columns[0] if len(columns) == 1 else columns


def side_by_side(emissionprob: Any, k: int) -> dict[str, Array]:
    """probabilities_ and n_categories_ of probabilities that a user gave, (K, V) or a list of such arrays.

    Raises
    ------
    ParameterError : text, other shapes, or rows that do not sum to 1
    """
    listed = isinstance(emissionprob, list | tuple) and len(emissionprob) > 0
    single = not listed or isinstance(emissionprob[0], str) or np.ndim(emissionprob[0]) < 2
    columns = [numbers(column, "emissionprob_") for column in ([emissionprob] if single else emissionprob)]
    for column in columns:
        _require_distributions(column, k)
    sizes = np.array([column.shape[1] for column in columns], dtype=np.int64)
    return {"probabilities_": np.concatenate(columns, axis=1), "n_categories_": sizes}


def _require_distributions(column: Array, k: int) -> None:
    if column.ndim != 2 or len(column) != k or not column.shape[1]:
        raise ParameterError(f"emissionprob_ has shape {column.shape}; ({k}, V) is needed, or a list of such arrays")
    sums = column.sum(axis=1)
    if not ((column >= 0).all() and (np.abs(sums - 1) < 1e-6).all()):
        raise ParameterError(
            f"emissionprob_ must hold probabilities >= 0 that sum to 1 in every row; the smallest is "
            f"{column.min()}, and rows sum to {sums}"
        )
