"""The face of `ItemResponse`: difficulties are the structure's, discriminations its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.face import Face
from streamem.families.item_curves import ItemCurves, difficulty
from streamem.initialization import Start
from streamem.running.fitted import Shape

Array = NDArray[Any]

MODELS = ("2pl", "rasch")


class ItemResponseFace(Face):
    """discrimination_ (d,), beside difficulty_ (d,)."""

    names = ("discrimination_",)
    title = "difficulty  discrimination"

    def family(self, settings: Any, shape: Shape | None) -> ItemCurves:
        """Curves at the nodes of the quadrature."""
        return ItemCurves(quadrature(int(settings.n_nodes))[0], common=settings.model == "rasch")

    def row_products(self, settings: Any, n_features: int) -> int:
        """Two products for each item and node."""
        return 2 * int(settings.n_nodes) * (1 + 2 * n_features)

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Discriminations."""
        return {"discrimination_": np.array(components.slopes)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From difficulties and discriminations.

        Raises
        ------
        ParameterError : other shapes, or values that are no numbers; of Rasch's model, discriminations that differ
        """
        b, a = (np.asarray(attributes[name], dtype=np.float64) for name in ("difficulty_", "discrimination_"))
        if b.ndim != 1 or a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
            raise ParameterError(
                f"difficulty_ has shape {b.shape}, discrimination_ {a.shape}; one of each an item is needed"
            )
        if settings.model == "rasch" and (a != a[:1]).any():
            raise ParameterError('discrimination_ differs from item to item, and model="rasch" has one for all')
        return Params(slopes=a, intercepts=-a * b, nodes=quadrature(int(settings.n_nodes))[0])

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The number of items."""
        return len(attributes["discrimination_"])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Other numbers of items or nodes."""
        fits = np.shape(components.get("slopes", ())) == (d,) and np.shape(components.get("nodes", ())) == (k,)
        return "" if fits else f"the file's curves do not fit {d} items at {k} nodes"

    def is_given_wholly(self, settings: Any) -> bool:
        """Always: a start draws nothing."""
        return True

    def starts(self) -> Mapping[str, Start]:
        """The shares of right answers."""
        return {"shares": _equal}

    def kind(self, settings: Any) -> str:
        """The model."""
        return str(settings.model)

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """A line an item."""
        shown = zip(difficulty(components), np.asarray(components.slopes), strict=True)
        return [f"{b:10.4f}  {a:14.4f}" for b, a in shown]

    def key(self, settings: Any) -> dict[str, Any]:
        """The model, the number of nodes, and whether patterns are counted."""
        return {"model": settings.model, "n_nodes": int(settings.n_nodes), "compress": repr(settings.compress)}


@lru_cache(maxsize=8)
def quadrature(n_nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss–Hermite quadrature for a standard normal ability (Golub & Welsch 1969)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    weights = weights / weights.sum()
    for values in (nodes, weights):
        values.setflags(write=False)
    return nodes, weights


def _equal(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Equal responsibilities (n, k), for which nobody asks."""
    return np.full((len(x), k), 1.0 / k)
