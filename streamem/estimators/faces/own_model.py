"""The face of `EM`: a user's own model tells its parameters itself, so there are no attributes of components."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.own_results import own_params
from streamem.core.ports.own import label_of
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.models.own_model import SingleComponent
from streamem.running.fitted import Shape

SHOWN = 8
"""Numbers of a parameter that are told in words."""
SIMPLE = (str, int, float, bool, type(None), np.generic)


class OwnModelFace(Face):
    """A face without attributes of components: `params_` is shown by the structure."""

    names = ()
    objects = frozenset({"model"})

    def family(self, settings: Any, shape: Shape | None) -> Any:
        """The model as a family of one component."""
        return SingleComponent(settings.model)

    def is_plain(self, settings: Any) -> bool:
        """Never: the model is code."""
        return False

    def row_products(self, settings: Any, n_features: int) -> int:
        """(1 + d)², the products of a row with itself, where nobody has counted."""
        return (1 + n_features) ** 2

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """An empty mapping: the parameters are shown by the structure."""
        return {}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """The parameters that the user set."""
        return own_params(attributes["params_"], "params_ was set by hand and")

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The name, the shape and the first numbers of each parameter."""
        shapes = {name: "×".join(map(str, np.shape(value))) for name, value in components.items()}
        return [
            f"{name}{f' {shapes[name]}' if shapes[name] else ''}: {in_short(np.asarray(value), SHOWN)}"
            for name, value in components.items()
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """The class of the model, and its settings as far as they are numbers, texts and arrays."""
        return {"model": key_of(settings.model)}


def key_of(model: Any) -> str:
    """What identifies a user's model in another process too."""
    settings = getattr(model, "__dict__", {})
    told = {name: _told(value) for name, value in sorted(settings.items())}
    return f"{label_of(model)}{ {name: value for name, value in told.items() if value is not None} }"


def _told(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=8).hexdigest()
        return f"{value.dtype.str}{value.shape} {digest}"
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    return value if isinstance(value, SIMPLE) else None
