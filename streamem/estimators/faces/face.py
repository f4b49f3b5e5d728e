"""The protocol of a face: from a family's exact parameters to the attributes that users see, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.completing import as_written
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, full_family
from streamem.initialization import STARTS, Start
from streamem.running.fitted import Shape

Array = NDArray[Any]


class Face(Protocol):
    """A family as an estimator shows it. Without state; a class inherits the neutral defaults.

    `settings` is the estimator itself, of which hyperparameters (and attributes that a user gave as a start) are read,
    never written. `components` are the parameters of the family, of K components. A face defines the methods without a
    default.
    """

    names: tuple[str, ...]
    """Public attributes from which `rebuilt` makes parameters: all that a user has to set by hand."""

    letters: Mapping[str, str] = {}
    """hmmlearn's letter of each attribute, for ``params`` and ``init_params`` of hidden Markov models."""

    priors: tuple[str, ...] = ()
    """Hyperparameters that are priors of the family: numbers, arrays or None."""

    objects: frozenset[str] = frozenset()
    """Hyperparameters that are code: they are not saved, and have to be given again to `load`."""

    title: str = "parameters"
    """Head of what `words` says."""

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> Family:
        """The family at the present hyperparameters; `shape` is None before any data was seen."""

    def is_plain(self, settings: Any) -> bool:
        """Whether the family follows from numbers and text alone, so that it is saved and rebuilt without code."""
        return True

    def free_family(self, settings: Any, shape: Shape | None) -> Family:
        """The family whose M-step keeps nothing fixed and knows no prior: for starts."""
        return self.family(settings, shape)

    def row_products(self, settings: Any, n_features: int) -> int:
        """Products that a row costs, on which the size of chunks of arrays depends (`ReadOptions.row_products`)."""
        return int(settings.n_components) * (1 + n_features)

    def vocabulary(self, settings: Any) -> Mapping[str, Sequence[Any]] | str:
        """How columns of text are read before a fit: "text", or the values of columns in the order of their codes."""
        return "text"

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Fitted attributes under their public names: arrays of `dtype`, of float64 where it does not hold some."""

    def completed(self, settings: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes that a user set by hand, with those that follow from them: a precision from a covariance."""
        return dict(attributes)

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """Parameters from the attributes in `names`, where a user changed or set them.

        `attributes` hold those of the structure (weights_, or startprob_ and transmat_) besides.

        Raises
        ------
        ParameterError : values or shapes that cannot be
        """

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Starting parameters with the attributes in `given` put in."""
        return components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shape of every attribute in `names`, as far as hyperparameters, k and d tell."""
        return {}

    def sizes(self, settings: Any) -> str:
        """The hyperparameters on which `shapes` depends, in words; "" where it is the number of components alone."""
        return ""

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """d, as far as attributes that were set by hand tell."""
        return None

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Why parameters (of a file, or of other hyperparameters) are not of k components and d features, or ""."""
        return ""

    # --- starts ------------------------------------------------------------------------------------------------------

    def given(self, settings: Any) -> dict[str, Any]:
        """Starting values that the user gave, under the names of the attributes; empty if there are none."""
        return {}

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether every starting value of the family is given."""
        return bool(self.names) and self.given(settings).keys() == set(self.names)

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse starting values that do not fit the data."""
        return

    def settled(self, settings: Any, components: Params) -> Params:
        """Starting parameters without what no iteration can leave.

        Raises
        ------
        DegenerateDataError : parameters from which no fit can start
        """
        return components

    def starts(self) -> Mapping[str, Start]:
        """Ways to split a sample for the first parameters."""
        return STARTS

    # --- rows --------------------------------------------------------------------------------------------------------

    def draw(
        self,
        settings: Any,
        family: Any,
        components: Params,
        attributes: Mapping[str, Any],
        component: int,
        count: int,
        rng: np.random.RandomState,
    ) -> Array:
        """Rows (count, d) that a component emits.

        Raises
        ------
        ParameterError : the family cannot draw
        """
        full = full_family(family)
        if not full.can_draw:
            raise ParameterError(
                f"{type(as_written(family)).__name__} cannot draw rows; give it "
                "draw(params, component, count, rng) -> (count, d)"
            )
        return np.asarray(full.draw(components, component, count, rng))

    # --- in words ----------------------------------------------------------------------------------------------------

    def kind(self, settings: Any) -> str:
        """The variant of the family, for the first line of `describe` ("full covariance"); "" where it has none."""
        return ""

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """Every component in words (K,)."""

    def key(self, settings: Any) -> dict[str, Any]:
        """What identifies a run in a checkpoint besides the class: hyperparameters and given starting values."""
        return {}
