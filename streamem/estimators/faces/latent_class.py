"""The face of `LatentClass`: the probabilities of the categories of every column, one column beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.families import Categorical
from streamem.initialization import DISCRETE_STARTS, Start
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Probabilities of a class that are told in words."""


class LatentClassFace(Face):
    """probabilities_ (K, ΣV) and n_categories_ (d,), which `LatentClass.class_probabilities_` shows by column."""

    names = ("probabilities_", "n_categories_")
    title = "probabilities"

    def family(self, settings: Any, shape: Shape | None) -> Categorical:
        """Categories of every column; those of columns of text as many as their vocabulary has."""
        return Categorical(settings.n_categories, settings.prior)

    def row_products(self, settings: Any, n_features: int) -> int:
        """A look-up for each column and class."""
        return int(settings.n_components) * n_features

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Probabilities, and how many belong to each column."""
        sizes = np.diff(np.asarray(components.starts)).astype(np.int64)
        return {"probabilities_": np.array(components.probabilities), "n_categories_": sizes}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From probabilities and numbers of categories.

        Raises
        ------
        ParameterError : other shapes, or rows that are no probabilities
        """
        k, sizes = int(settings.n_components), np.asarray(attributes["n_categories_"])
        values = np.asarray(attributes["probabilities_"], dtype=np.float64)
        if values.shape != (k, int(sizes.sum())) or (shape is not None and len(sizes) != shape.features):
            raise ParameterError(
                f"probabilities_ has shape {values.shape} and n_categories_ {len(sizes)} columns; ({k}, "
                f"{int(sizes.sum())}) is needed{'' if shape is None else f', and {shape.features} columns'}"
            )
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        sums = np.add.reduceat(values, starts[:-1], axis=1)
        if (values < 0).any() or (np.abs(sums - 1.0) > 1e-6).any():
            raise ParameterError("probabilities_ must be >= 0 and sum to 1 over the categories of every column")
        return Params(probabilities=values, starts=starts, empty=np.zeros(k, dtype=np.bool_))

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The number of columns."""
        return len(attributes["n_categories_"])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Other numbers of classes, columns or categories."""
        starts = np.asarray(components.get("starts", ()))
        fits = starts.shape == (d + 1,) and np.shape(components.probabilities) == (k, int(starts[-1]))
        if not fits or (np.diff(starts) < 1).any():
            return f"the file's probabilities do not fit {k} classes of {d} columns"
        return ""

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse a `compress` that is none.

        Raises
        ------
        ParameterError : neither "auto" nor a bool
        """
        if not (isinstance(settings.compress, bool) or settings.compress == "auto"):
            raise ParameterError(f"compress is {settings.compress!r}; it must be 'auto', True or False")

    def starts(self) -> Mapping[str, Start]:
        """At random by pattern, too."""
        return DISCRETE_STARTS

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The probabilities of each class."""
        return [in_short(values, SHOWN) for values in components.probabilities]

    def key(self, settings: Any) -> dict[str, Any]:
        """Numbers of categories, the prior, and whether patterns are counted."""
        sizes = None if settings.n_categories is None else np.asarray(settings.n_categories).tolist()
        return {"n_categories": repr(sizes), "prior": float(settings.prior), "compress": repr(settings.compress)}
