"""What the faces of all hidden Markov models share: starting values under hmmlearn's letters, checks of attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.face import Face
from streamem.running.fitted import Shape

Array = NDArray[Any]


class EmissionFace(Face):
    """The emissions of a hidden Markov model; subclasses name their attributes and letters."""

    title = "emissions"

    keyed: tuple[str, ...]
    """Starting values, under their public names, whose numbers identify a run in a checkpoint."""

    def given(self, settings: Any) -> dict[str, Any]:
        """Attributes that are set and that `init_params` does not say to make anew: `fit` starts from them."""
        return {
            name: getattr(settings, name)
            for name, letter in self.letters.items()
            if letter not in settings.init_params and hasattr(settings, name)
        }

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether every attribute of the emissions is given."""
        return self.given(settings).keys() == self.letters.keys()

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse emissions that are given wholly and do not fit the data."""
        if self.is_given_wholly(settings):
            self.rebuilt(settings, self.given(settings), Shape(n_features))


def matrix_of(settings: Any, attributes: Mapping[str, Any], name: str, shape: Shape | None = None) -> Array:
    """An attribute of finite numbers: a row a state, and a column a feature of the shape, if that is known.

    Raises
    ------
    ParameterError : text, another shape, or values that are not finite
    """
    values, k = numbers(attributes[name], name), int(settings.n_components)
    width = None if shape is None else shape.features
    fits = values.ndim == 2 and len(values) == k and values.shape[1] and width in (None, values.shape[1])
    if not fits or not np.isfinite(values).all():
        raise ParameterError(f"{name} has shape {values.shape}; finite numbers ({k}, {width or 'd'}) are needed")
    return values


def checked_regularization(reg_covar: Any) -> float:
    """`reg_covar` as a number.

    Raises
    ------
    ParameterError : something else
    """
    if isinstance(reg_covar, bool) or not isinstance(reg_covar, int | float | np.number):
        raise ParameterError(f"reg_covar is {reg_covar!r}; it must be a number >= 0")
    return float(reg_covar)
