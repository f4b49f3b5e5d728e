"""`ROWS`: independent rows, each of one of K components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, Source, Task
from streamem.core.stats import Stats
from streamem.estimators.attributes import attributes_of
from streamem.estimators.family_facts import weighed_by
from streamem.estimators.hyperparameters import require_choice
from streamem.estimators.making import family_of
from streamem.estimators.row_inputs import open_rows, read_options
from streamem.estimators.row_noise import OnValues, noise_behind, open_noisy
from streamem.estimators.structure import Asked, DataArguments, Opened, Question, Structure, imputing
from streamem.models import Mixture, MixtureWithNoise
from streamem.models.noise import NOISE_LABEL, BoxTask, joined_boxes
from streamem.models.weight_prior import WeightPrior
from streamem.online.behind import Behind
from streamem.running.answers import Column, map_source
from streamem.running.engines import Engine
from streamem.running.fitted import Fitted, Shape
from streamem.running.row_tasks import Apply, Describe, Score
from streamem.running.sequence_tasks import WeighAlong
from streamem.sources import open_source
from streamem.sources.row_noise import NoisyRows

Array = NDArray[Any]
NOISE = ("noise_weight", "box")


def asking(method: str) -> Any:
    """The task that asks a model's method of every row."""

    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        describe: Describe = getattr(model, method)
        return Apply(describe, params, names, column.dtype, column.row_nbytes, model.missing)

    return task


def label_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.int32 if stored else np.int64), ("label",))


def probability_columns(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(k, dtype, tuple(f"probability_{i}" for i in range(k)))


def _density_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, dtype, ("log_density",))


class Rows(Structure):
    """p(x) = Σ_k w_k p_k(x): rows are independent, and `weights_` (K,) ties the components together."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            "labels": Question(label_column, asking("labels")),
            "responsibilities": Question(probability_columns, asking("responsibilities")),
            "log_density": Question(_density_column, asking("log_density")),
        }
    )
    names: tuple[str, ...] = ("weights_",)
    iterations, noun, answers_lazily = "max_iter", "component", True
    has_concomitants = False
    """Whether weights depend on concomitants: see `shifted_weights`."""

    @property
    def can_exchange(self) -> bool:
        """Whether rows stand alone, and mean nothing else to a subclass."""
        return type(self) is Rows

    @property
    def takes_rows_as_they_are(self) -> bool:
        """Whether a subclass opens data as this class does."""
        return type(self).open is Rows.open

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Rows of anything that `streamem.open_source` takes."""
        return (open_rows if arguments.noise is None else open_noisy)(settings, x, arguments, shape)

    def row_width(self, family: Any, features: int) -> int:
        """Numbers of a row; with its noise where the family sees through that."""
        return int(family.row_width(features)) if hasattr(family, "row_width") else features

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory, which may have their noise behind them."""
        rows = open_source(chunk.x, weight=chunk.weight, options=read_options(settings, DataArguments(), shape))
        return rows if shape.noise is None else NoisyRows(rows, shape.features, None)

    def behind(self, settings: Any, shape: Shape | None, arguments: DataArguments) -> Behind | None:
        """The noise of each of a stream's records, where it is told."""
        return None if arguments.noise is None else noise_behind(settings, shape, arguments.noise)

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Any:
        """The mixture of the family, beside noise where that is asked for."""
        start, prior = settings.face.starts()[settings.init_params], weight_prior(settings, fitted)
        if fitted is not None and fitted.shape is not None and fitted.shape.noise is not None:
            start = OnValues(start, family)
        if not getattr(settings, "noise", False):
            return Mixture(family, self.count(settings), start, prior)
        shape = None if fitted is None else fitted.shape
        names, box = None if shape is None else shape.names, None if fitted is None else fitted.box
        return MixtureWithNoise(family, self.count(settings), start, box, names, prior)

    def model_of_all(self, settings: Any, family: Family, fitted: Fitted, stats: Stats) -> Any:
        """The model whose priors are weighed against these statistics."""
        everything = replace(fitted, prior_weight=replace(fitted.prior_weight, steps=None))
        return self.model(settings, weighed_by(family, stats), everything)

    def check_online(self, model: Any, fitted: Fitted) -> None:
        """A prior of the weights needs the number of all rows."""
        if model.has_prior and fitted.prior_weight.steps is None:
            raise ParameterError(
                "weight_concentration_prior is weighed against the data, of which nobody has told how much there is: "
                "fit first, or leave it at None"
            )

    def steps_weight(self, settings: Any, model: Any, source: Source, engine: Engine) -> float | None:
        """The weight of all rows, if a prior of the weights asks for it."""
        if not model.has_prior:
            return None
        weights: list[float] = []
        map_source(source, WeighAlong(model), engine, 0, weights.append)
        return sum(weights) or None

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(d + 1)."""
        return 2 * int(self.count(settings)) * (n_features + 1)

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
        kept = {name: params[name] for name in NOISE if name in params}
        if weights is None:
            return Params(weights=params.weights, components=components, **kept)
        beside = weights * (1.0 - params.noise_weight) if kept else weights
        return Params(weights=beside, components=components, **kept)

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether weights and every starting value of the family are given."""
        return self._given_weights(settings) is not None and bool(settings.face.is_given_wholly(settings))

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """The box of the data, outside of which noise has no density."""
        boxes: list[Array] = []
        map_source(source, BoxTask(source.schema.names, model.missing), engine, 0, boxes.append)
        return joined_boxes(boxes) if boxes else None

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The weighted sum of log-densities."""
        return Score(model, params, names)

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """From the responsibilities of each row."""
        return imputing(asking("imputed"), n_draws, seed)

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """weights_ (K,); with noise its weight, and the box in which it has a density."""
        shown: dict[str, Any] = {"weights_": np.array(params.weights).astype(dtype)}
        if "noise_weight" in params:
            shown |= {"noise_weight_": float(params.noise_weight), "noise_box_": np.array(params.box)}
        return shown

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of a mixture from attributes: the weights as they are."""
        weights = np.asarray(attributes["weights_"], dtype=np.float64)
        if not getattr(settings, "noise", False):
            return Params(weights=weights, components=components)
        if lacking := [name for name in ("noise_weight_", "noise_box_") if name not in attributes]:
            raise ParameterError(f"noise=True, and {', '.join(lacking)} are neither fitted nor set; set them, or fit")
        box = np.asarray(attributes["noise_box_"], dtype=np.float64)
        share = np.float64(attributes["noise_weight_"])
        return Params(weights=weights, components=components, noise_weight=share, box=box)

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,)."""
        return {"weights_": (k,)}

    def misfit(self, params: Params, k: int) -> str:
        """Weights of another number of components, or none, or weights that depend on concomitants."""
        if "logits" in params and not self.has_concomitants:
            return "the weights that were fitted depend on concomitants, and concomitant is None now"
        if np.shape(params.get("weights", ())) != (k,) or "components" not in params:
            return f"the file's weights do not fit {k} components"
        return f"the file's active do not fit {k} components" if np.shape(params.get("active", 0.0)) else ""

    def n_parameters(self, settings: Any, params: Params) -> int:
        """K − 1 weights, and one more with noise; the ends of its box are not counted, as mclust counts."""
        return int(self.count(settings)) - 1 + bool(getattr(settings, "noise", False))

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
        params = fitted.state.params
        if "noise_weight" in params:
            chances = np.append(chances, float(params.noise_weight))
        counts = rng.multinomial(n_rows, chances / chances.sum())
        family, draw = family_of(settings, fitted), settings.face.draw
        k = int(self.count(settings))
        rows = [draw(settings, family, components, attributes, i, int(n), rng) for i, n in enumerate(counts[:k])]
        labels = np.arange(k)
        if len(counts) > k:
            rows.append(self.model(settings, family, fitted).noise(params, int(counts[k]), rng))
            labels = np.append(labels, NOISE_LABEL)
        return np.vstack(rows), np.repeat(labels, counts)

    def check(self, settings: Any) -> None:
        """`init_params` is the name of a start, `noise` yes or no."""
        require_choice(settings, "init_params", settings.face.starts())
        weight_prior(settings, None)
        if not isinstance(noise := getattr(settings, "noise", False), bool | np.bool_):
            raise ParameterError(f"noise is {noise!r}; it must be True or False")

    def key(self, settings: Any) -> dict[str, Any]:
        """Whether there is noise, and the prior of the weights."""
        prior = getattr(settings, "weight_concentration_prior", None)
        return {
            **({"noise": True} if getattr(settings, "noise", False) else {}),
            **({} if prior is None else {"weight_concentration_prior": repr(np.asarray(prior).tolist())}),
        }

    def check_start(self, settings: Any, shape: Shape) -> None:
        """What the face finds wrong."""
        settings.face.check_start(settings, shape.features)

    def headline(self, settings: Any, features: int) -> str:
        """Components and features."""
        return f"{counted(settings.n_components, 'component')} of {counted(features, 'feature')}"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """Weight and words of each component, the heaviest first."""
        weights = np.asarray(params.weights)
        order = np.argsort(-weights, kind="stable")
        noise = (
            [f"    noise{float(params.noise_weight):9.4f}  uniform in the box of the data"] if "box" in params else []
        )
        return [f"component   weight  {title}", *(f"{k:9d}{weights[k]:9.4f}  {words[k]}" for k in order), *noise]

    @staticmethod
    def _given_weights(settings: Any) -> Array | None:
        given = getattr(settings, "weights_init", None)
        return None if given is None else np.asarray(given, dtype=np.float64)


def weight_prior(settings: Any, fitted: Fitted | None) -> WeightPrior | None:
    """The prior of the weights, weighed against the data of the fit."""
    concentration = getattr(settings, "weight_concentration_prior", None)
    if concentration is None:
        return None
    prior = WeightPrior.of(concentration, int(settings.n_components))
    return prior if fitted is None else prior.weighed(fitted.prior_weight.steps)


ROWS = Rows()
