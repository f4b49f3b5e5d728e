"""`TRAITS`: rows are people who answer items by an ability that has nodes instead of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.estimators.faces.item_response import MODELS, quadrature
from streamem.estimators.hyperparameters import require_choice
from streamem.estimators.making import family_of
from streamem.estimators.rows import Rows
from streamem.estimators.structure import Question
from streamem.families.item_curves import difficulty
from streamem.models.latent_trait import LatentTrait
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.running.row_tasks import Apply

Array = NDArray[Any]

MOST_NODES = 200
"""Beyond which weights of the outer nodes vanish in float64."""


def _asking(method: str) -> Any:
    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        return Apply(getattr(model, method), params, names, column.dtype, column.row_nbytes, model.missing)

    return task


FLOATS = np.dtype(np.float64)


class Traits(Rows):
    """p(x) = Σ_q w_q Π_j P(x_j | θ_q): `difficulty_` (d,) is the structure's, the weights of the nodes stay."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            **Rows.questions,
            "abilities": Question(
                lambda k, dtype, stored: Column(2, FLOATS, ("ability", "standard_deviation")), _asking("abilities")
            ),
            "ability": Question(lambda k, dtype, stored: Column(1, FLOATS, ("ability",)), _asking("ability")),
        }
    )
    names, noun = ("difficulty_",), "node"
    counts: Mapping[str, int] = MappingProxyType({"n_nodes": 2, "n_init": 1})
    least_formula, starts_from_rows = "two", False

    def count(self, settings: Any) -> Any:
        """Nodes."""
        return settings.n_nodes

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> LatentTrait:
        """The quadrature over the ability."""
        return LatentTrait(family, *quadrature(int(settings.n_nodes)))

    def least_rows(self, settings: Any, n_features: int) -> int:
        """Two."""
        return 2

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """Slopes of 1, and intercepts by the shares of right answers in a sample."""
        params: Params = model.init(sample, rng)
        return params

    def is_given_wholly(self, settings: Any) -> bool:
        """Always, since a start draws nothing."""
        return True

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """difficulty_ (d,)."""
        return {"difficulty_": difficulty(params.components)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """The nodes with their weights."""
        nodes, weights = quadrature(int(settings.n_nodes))
        return Params(weights=weights.copy(), components=components, active=np.float64(len(nodes)))

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """An empty mapping: the number of items is no hyperparameter."""
        return {}

    def n_parameters(self, settings: Any, params: Params) -> int:
        """Zero, since the weights of the nodes stay."""
        return 0

    def drawn(self, settings: Any, fitted: Fitted, n_rows: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        """Answers (n, d) of people at nodes, and the nodes (n,)."""
        assert fitted.state is not None
        family: Any = family_of(settings, fitted)
        components, (nodes, weights) = fitted.state.params.components, quadrature(int(settings.n_nodes))
        counts = rng.multinomial(n_rows, weights)
        rows = [family.draw(components, q, int(n), rng) for q, n in enumerate(counts)]
        return np.vstack(rows), np.repeat(np.arange(len(nodes)), counts)

    def check(self, settings: Any) -> None:
        """A model that is known, and nodes that have weights.

        Raises
        ------
        ParameterError : naming the hyperparameter
        """
        require_choice(settings, "model", MODELS)
        if settings.n_nodes > MOST_NODES:
            raise ParameterError(f"n_nodes is {settings.n_nodes}; it must be an integer from 2 to {MOST_NODES}")
        if not (isinstance(settings.compress, bool) or settings.compress == "auto"):
            raise ParameterError(f"compress is {settings.compress!r}; it must be 'auto', True or False")

    def key(self, settings: Any) -> dict[str, Any]:
        """What identifies a run is the face's."""
        return {}

    def headline(self, settings: Any, features: int) -> str:
        """Items and nodes."""
        return f"{counted(features, 'item')}, abilities at {settings.n_nodes} nodes"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line an item."""
        return [f" item  {title}", *(f"{j:5d}  {own}" for j, own in enumerate(words))]


def no_classes(settings: Any) -> Any:
    """Say that people have abilities, where a mixture would name classes.

    Raises
    ------
    AttributeError : always
    """
    raise AttributeError(
        "ItemResponse has no classes to predict: ask transform for abilities, score_samples for log-likelihoods; "
        "LatentClass has classes"
    )


TRAITS = Traits()
