"""`OWN_ROWS`: independent rows of a model that a user wrote, which alone knows what is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import ParameterError
from streamem.core.ports import ChunkRef, PassTask, Source
from streamem.core.ports.own import as_dict, require_model
from streamem.core.stats import Stats
from streamem.core.validation import require_finite
from streamem.estimators.row_inputs import open_rows, read_options
from streamem.estimators.structure import DataArguments, Opened, Question, Structure
from streamem.models import OwnModel
from streamem.running.fitted import Fitted, Shape
from streamem.sources import open_source

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScoreOwn(PassTask[Stats]):
    """Weight and log-likelihood of rows, by the model's E-step."""

    model: OwnModel
    params: Params
    names: tuple[str, ...] | None

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """weight and log_likelihood of one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        found = self.model.e_step(self.params, chunk)
        return Stats(weight=found.weight, log_likelihood=found.log_likelihood)


class OwnRows(Structure):
    """p(x; θ) of independent rows; `params_` holds θ."""

    questions: Mapping[str, Question] = MappingProxyType({})
    names = ("params_",)
    iterations, noun = "max_iter", "class"
    starts_from_rows, has_components, answers_lazily = False, False, True
    least_formula = "least_rows of the model, by default 2·(d + 1)"

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Rows of anything that `streamem.open_source` takes."""
        require_model(settings.model)
        return open_rows(settings, x, arguments, shape)

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory."""
        return open_source(chunk.x, weight=chunk.weight, options=read_options(settings, DataArguments(), shape))

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Any, fitted: Fitted | None) -> Any:
        """The user's model, told the names of the columns."""
        names = None if fitted is None or fitted.shape is None else fitted.shape.names
        return OwnModel(settings.model, names)

    def least_rows(self, settings: Any, n_features: int) -> int:
        """What the model says, or 2·(d + 1)."""
        return int(getattr(settings.model, "least_rows", 2 * (n_features + 1)))

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """What `init` of the model says of the sample."""
        params: Params = model.init(sample, rng)
        return params

    def is_given_wholly(self, settings: Any) -> bool:
        """Never: the model may draw."""
        return False

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> ScoreOwn:
        """The task whose sum over chunks holds weight and log_likelihood."""
        return ScoreOwn(model, params, names)

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The very parameters, which are immutable."""
        return {"params_": params.components}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """The parameters that the user set."""
        return Params(components=components)

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes are known to the model alone."""
        return {}

    def misfit(self, params: Params, k: int) -> str:
        """Parameters of a file that are no dict of a user's model."""
        return "" if "components" in params else "the file holds no parameters of a model of one's own"

    def n_parameters(self, settings: Any, params: Params) -> int:
        """0: all parameters are the model's."""
        return 0

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """Rows that `sample` of the model draws."""
        assert fitted.state is not None
        model = OwnModel(settings.model)
        if fitted.shape is None and not hasattr(settings.model, "sample"):
            raise ParameterError(
                "params_ were set by hand, and no rows have told yet how many columns there are: fit with max_iter=0 "
                "from an init that gives these parameters"
            )
        draw, given = model.able("sample"), as_dict(fitted.state.params.components)
        drawn = np.random.default_rng(rng.randint(0, 2**31, size=4, dtype=np.int64))
        for first in range(0, n_rows, step):
            count = min(step, n_rows - first)
            rows = np.asarray(draw(given, count, drawn))
            if rows.ndim != 2 or len(rows) != count or rows.dtype.kind not in "biuf":
                raise ParameterError(
                    f"sample of {model.label} returned {rows.dtype} of shape {rows.shape}; ({count}, d) numbers are "
                    "needed"
                )
            yield rows

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """`model` has its three functions."""
        require_model(settings.model)

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Starts come from the model alone."""
        return

    # --- in words ----------------------------------------------------------------------------------------------------

    def headline(self, settings: Any, features: int) -> str:
        """The model and the number of columns."""
        return f"{OwnModel(settings.model).label} of {counted(features, 'feature')}"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each parameter."""
        return [title, *(f"    {line}" for line in words)]


OWN_ROWS = OwnRows()
