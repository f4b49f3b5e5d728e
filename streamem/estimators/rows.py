"""`ROWS`: independent rows, each of one of K components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Family, Source, Task
from streamem.core.stats import Stats
from streamem.estimators.attributes import attributes_of
from streamem.estimators.hyperparameters import require_choice
from streamem.estimators.making import family_of
from streamem.estimators.row_inputs import open_rows, read_options
from streamem.estimators.structure import Asked, DataArguments, Opened, Question, Structure, imputing
from streamem.models import Mixture
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.running.row_tasks import Apply, Describe, Score
from streamem.sources import open_source

Array = NDArray[Any]


def _asking(method: str) -> Any:
    """The task that asks a model's method of every row."""

    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        describe: Describe = getattr(model, method)
        return Apply(describe, params, names, column.dtype, column.row_nbytes, model.missing)

    return task


def _label_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.int32 if stored else np.int64), ("label",))


def _probability_columns(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(k, dtype, tuple(f"probability_{i}" for i in range(k)))


def _density_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, dtype, ("log_density",))


class Rows(Structure):
    """p(x) = Σ_k w_k p_k(x): rows are independent, and `weights_` (K,) ties the components together."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            "labels": Question(_label_column, _asking("labels")),
            "responsibilities": Question(_probability_columns, _asking("responsibilities")),
            "log_density": Question(_density_column, _asking("log_density")),
        }
    )
    names = ("weights_",)
    iterations, noun, answers_lazily = "max_iter", "component", True

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Rows of anything that `streamem.open_source` takes."""
        return open_rows(settings, x, arguments, shape)

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory."""
        return open_source(chunk.x, weight=chunk.weight, options=read_options(settings, DataArguments(), shape))

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Mixture:
        """The mixture of the family."""
        return Mixture(family, settings.n_components, settings.face.starts()[settings.init_params])

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(d + 1)."""
        return 2 * int(settings.n_components) * (n_features + 1)

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """An M-step from the sample's responsibilities, or the anchor alone where all values are given."""
        face, weights = settings.face, self._given_weights(settings)
        anchored = model.anchor_only(sample) if self.is_given_wholly(settings) else None
        if anchored is None:
            params: Params = model.init(sample, rng)
            if not hasattr(settings, "weights_init"):
                return params
            params = params.replace(components=face.settled(settings, params.components))
        else:
            params = anchored
        components = face.with_given(settings, params.components, face.given(settings))
        return Params(weights=params.weights if weights is None else weights, components=components)

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether weights and every starting value of the family are given."""
        return self._given_weights(settings) is not None and bool(settings.face.is_given_wholly(settings))

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The weighted sum of log-densities."""
        return Score(model, params, names)

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """From the responsibilities of each row."""
        return imputing(_asking("imputed"), n_draws, seed)

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """weights_ (K,)."""
        return {"weights_": np.array(params.weights).astype(dtype)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of a mixture from attributes: the weights as they are."""
        return Params(weights=np.asarray(attributes["weights_"], dtype=np.float64), components=components)

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,)."""
        return {"weights_": (k,)}

    def misfit(self, params: Params, k: int) -> str:
        """Weights of another number of components, or none."""
        if np.shape(params.get("weights", ())) != (k,) or "components" not in params:
            return f"the file's weights do not fit {k} components"
        return f"the file's active do not fit {k} components" if np.shape(params.get("active", 0.0)) else ""

    def n_parameters(self, settings: Any, params: Params) -> int:
        """K − 1 weights."""
        return int(settings.n_components) - 1

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """Component after component in each piece."""
        for first in range(0, n_rows, step):
            yield self.drawn(settings, fitted, min(step, n_rows - first), rng)[0]

    def drawn(self, settings: Any, fitted: Fitted, n_rows: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        """Rows (n, d) and their components (n,), component after component."""
        assert fitted.state is not None
        attributes, components = attributes_of(settings), fitted.state.params.components
        chances = np.asarray(attributes["weights_"], dtype=np.float64)
        counts = rng.multinomial(n_rows, chances / chances.sum())
        family, draw = family_of(settings, fitted), settings.face.draw
        rows = [draw(settings, family, components, attributes, k, int(n), rng) for k, n in enumerate(counts)]
        return np.vstack(rows), np.repeat(np.arange(len(counts)), counts)

    def check(self, settings: Any) -> None:
        """`init_params` is the name of a start."""
        require_choice(settings, "init_params", settings.face.starts())

    def check_start(self, settings: Any, shape: Shape) -> None:
        """What the face finds wrong."""
        settings.face.check_start(settings, shape.features)

    def headline(self, settings: Any, features: int) -> str:
        """Components and features."""
        return f"{settings.n_components} components of {features} features"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """Weight and words of each component, the heaviest first."""
        weights = np.asarray(params.weights)
        order = np.argsort(-weights, kind="stable")
        return [f"component   weight  {title}", *(f"{k:9d}{weights[k]:9.4f}  {words[k]}" for k in order)]

    @staticmethod
    def _given_weights(settings: Any) -> Array | None:
        given = getattr(settings, "weights_init", None)
        return None if given is None else np.asarray(given, dtype=np.float64)


ROWS = Rows()
