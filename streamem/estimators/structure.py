"""`Structure`: how rows belong together, one of the two things that vary between estimators (the other is `Face`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, Model, Source, Task
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.online.behind import Behind
from streamem.running.answers import Column
from streamem.running.engines import Engine
from streamem.running.fitted import Fitted, Shape
from streamem.running.row_tasks import Apply

Array = NDArray[Any]


@dataclass(frozen=True)
class DataArguments:
    """What a call says of its data, as the user passed it; see `fit` of the estimators.

    `in_order` tells whether an algorithm will read the chunks about in their order. `continued` tells that a batch goes
    on with the sequence of the call before. `chunk_bytes` is the size of a chunk where answers are wider than rows.
    `left_out` are columns that are no features, such as those that are written beside answers. `categories` are the
    values of columns of text, where no rows were seen yet. `noise` is that of each row; see `GaussianMixture.fit`.
    `response` is what the features explain; see `MixtureOfRegressions.fit`.
    """

    sample_weight: Any = None
    columns: Sequence[str] | None = None
    feature_axis: int | str | None = None
    lengths: Any = None
    offsets: Any = None
    sequence_column: str | None = None
    in_order: bool = True
    continued: bool = False
    chunk_bytes: int | None = None
    left_out: tuple[str, ...] = ()
    categories: Mapping[str, Sequence[Any]] | None = None
    noise: Any = None
    response: Any = None


@dataclass(frozen=True)
class Opened:
    """A source that was checked against an estimator, and the shape of its rows."""

    source: Source
    shape: Shape


Asked = Callable[[Any, Params, tuple[str, ...] | None, Column], Apply]
"""From the model, its parameters, the names of the features and the shape of an answer, the task for a chunk."""


@dataclass(frozen=True)
class Question:
    """What a fitted model can be asked of every row.

    Attributes
    ----------
    column : from the number of components, the dtype that the user's data asks for, and whether the answer is written
        to a store, the shape of the answer
    task : what works it out
    per_sequence : whether every sequence has one answer, instead of each row; a chunk tells those of its sequences, and
        of one that is cut all pieces but the first tell nothing, or add to it (`added`)
    """

    column: Callable[[int, np.dtype[Any], bool], Column]
    task: Asked
    per_sequence: bool = False
    added: bool = False


def imputing(asked: Asked, n_draws: int, seed: int | None) -> Asked:
    """The task of a question to ``imputed`` of a model, with the number of draws and the seed."""

    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        made = asked(model, params, names, column)
        return replace(made, describe=partial(made.describe, n_draws=n_draws), seed=seed)

    return task


class Structure(Protocol):
    """How rows belong together: independent rows, or steps of sequences. Without state.

    `settings` is the estimator itself, of which hyperparameters (and attributes that a user gave as a start) are read,
    never written; `settings.face` is its `Face`. Parameters of a model hold those of its family under ``components``,
    and how components are tied together beside that: weights (K,), or startprob (K,) and transmat (K, K).

    A structure defines `questions`, `names` and the methods without a default; the others have neutral ones.
    """

    questions: Mapping[str, Question]

    names: tuple[str, ...]
    """Public attributes that tell how components are tied together: ``("weights_",)``."""

    iterations: str
    """The hyperparameter that limits iterations: "max_iter"."""

    starting: str = "init_params"
    """The hyperparameter that names the start."""

    noun: str
    """What a component is called: "component", "state"."""

    starts_from_rows: bool = True
    """Whether a start needs a row for each component."""

    has_components: bool = True
    """Whether rows are shared out to components, of which a start needs some number."""

    is_sequential: bool = False
    """Whether rows are steps of sequences."""

    answers_lazily: bool = False
    """Whether answers about a Dask collection are a lazy Dask array, block by block."""

    counts: Mapping[str, int] = MappingProxyType({"n_components": 1, "n_init": 1})
    """Hyperparameters that are whole numbers, and the least value of each."""

    window: int | None = None
    """Steps of a long sequence that "stepwise" draws together; None where rows are drawn one by one."""

    @property
    def can_exchange(self) -> bool:
        """Whether a start by k-means may go on through exchanges of components on the sample."""
        return False

    def count(self, settings: Any) -> Any:
        """K, how many components are tied together; as the user gave it, which `check_hyperparameters` looks at."""
        return settings.n_components

    # --- data --------------------------------------------------------------------------------------------------------

    @property
    def takes_rows_as_they_are(self) -> bool:
        """Whether an array of rows is answered row by row, and `open` does nothing else with it; see `at_once`."""
        return False

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Open X, checked against the shape of the fit, or of nothing before a fit (None).

        Raises
        ------
        SchemaError : another number of features than at fit
        """

    def sized(self, settings: Any, features: int, params: Params | None = None) -> None:
        """Note the number of columns, or that of a file's components, where it is no hyperparameter."""
        return

    def certificate(self, model: Any, state: State) -> float | None:
        """The most by which any parameters can be better than the fitted ones, in nats per row; None: unknown."""
        return None

    def needs_moments_alone(self, settings: Any) -> bool:
        """Whether the likelihood of rows is that of any others of the same weight, mean and covariance."""
        return False

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """A mini-batch of a stream as a source."""

    def behind(self, settings: Any, shape: Shape | None, arguments: DataArguments) -> Behind | None:
        """Columns of a stream's records that are no features; None where all are."""
        return None

    def columns_of_rows(self, settings: Any, columns: Sequence[str]) -> list[str]:
        """The columns of a stream's records that make its rows, where a user chose some."""
        return list(columns)

    def apart(self, settings: Any, whole: Shape, columns: Sequence[str] | None) -> Shape:
        """From the shape of a stream's rows that of its features, where columns drive transitions or weights.

        Raises
        ------
        SchemaError : rows without these columns, or with no others
        """
        return whole

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Model:
        """The model at the present hyperparameters."""

    def model_of_all(self, settings: Any, family: Family, fitted: Fitted, stats: Stats) -> Model:
        """The model for an M-step with statistics of all rows that there are, whatever it was fitted to before."""
        return self.model(settings, family, fitted)

    def row_width(self, family: Family, features: int) -> int:
        """Values of a row as the model reads it; more than its features where the family looks back on earlier rows."""
        return features

    least_formula: str = "2·K·(d + 1)"
    """What `least_rows` computes, in words."""

    def least_rows(self, settings: Any, n_features: int) -> int:
        """Rows that are enough to estimate every component."""

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """Parameters to start from, with those that the user gave put in."""

    def check_online(self, model: Any, fitted: Fitted) -> None:
        """Refuse to learn from mini-batches where only a fit can tell how much data there is, for a prior to weigh."""
        return

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether nothing is drawn for a start, since every value is given: starts then need no seed."""

    def steps_weight(self, settings: Any, model: Any, source: Source, engine: Engine) -> float | None:
        """The weight of all steps, found in a pass of its own, if a prior of the structure asks for it."""
        return None

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """(2, d) smallest and largest values, found in a pass of its own, where `needs_box`."""
        return None

    def needs_box(self, settings: Any) -> bool:
        """Whether the first parameters ask for the smallest and largest values of all rows: where there is noise."""
        return bool(getattr(settings, "noise", False))

    def refuse(self, settings: Any, what: str) -> None:
        """Refuse what this structure cannot do, of "a stream", "an endless sequence", "standard errors" and such.

        Raises
        ------
        ParameterError : what to do instead
        """
        return

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The task whose sum over chunks holds weight and log_likelihood."""

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """The task that fills in what was not observed; `seed` is that of draws, None for conditional means.

        Raises
        ------
        ParameterError : nobody says how, as by default
        """
        raise ParameterError("this model does not say what values that were not observed are likely to be")

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """The attributes in `names`, of exact parameters."""

    def check_by_hand(self, settings: Any, attributes: Mapping[str, Any]) -> None:
        """Refuse attributes in `names` that a user set and that cannot be, before those of the family are looked at."""
        return

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters from the attributes in `names` and those of the family.

        Raises
        ------
        ParameterError : attributes that are none, or of other shapes than the hyperparameters need
        """

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """Shape of every attribute in `names`."""

    def misfit(self, params: Params, k: int) -> str:
        """Why parameters (of a file, or of other hyperparameters) are not of k components; "" if they are."""

    def n_parameters(self, settings: Any, params: Params) -> int:
        """Free parameters besides those of the family."""

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """`n_rows` rows that the fitted model emits, at most `step` of them at a time."""

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """Refuse hyperparameters that cannot be, besides those that all estimators have."""

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Refuse starting values, of the structure and of the face, that do not fit the data."""

    def key(self, settings: Any) -> dict[str, Any]:
        """What identifies a run in a checkpoint, besides what all estimators have and the face's key."""
        return {}

    # --- in words ----------------------------------------------------------------------------------------------------

    def headline(self, settings: Any, features: int) -> str:
        """How many components of how many features."""

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A head and a line a component, for `describe`: `words` are the face's, `title` their head."""
