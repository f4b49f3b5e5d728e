"""`REGRESSIONS`: rows of which one column, the response, depends on the others as one of K components says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.core.ports import Family, Source
from streamem.estimators.faces.regressions import beside
from streamem.estimators.response_labels import require_number_of, takes_labels
from streamem.estimators.row_inputs import read_options
from streamem.estimators.row_response import open_with_response
from streamem.estimators.rows import Rows, asking, label_column, probability_columns, weight_prior
from streamem.estimators.structure import DataArguments, Opened, Question
from streamem.families.regression.naming import REGRESSIONS as DISTRIBUTIONS
from streamem.models.regression_mixture import RegressionMixture
from streamem.online.behind import Behind
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.sources import open_source

Array = NDArray[Any]


def _response_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.float64), ("response",))


DRAWS = Column(2, np.dtype(np.float64), ("response", "label"))


def drawing(seed: int) -> Question:
    """What asks for responses that are drawn, and their components; random numbers depend on the seed and the chunk."""
    asked = asking("drawn_responses")

    def task(model: Any, params: Any, names: tuple[str, ...] | None, column: Column) -> Any:
        return replace(asked(model, params, names, column), seed=seed)

    return Question(lambda *_: DRAWS, task)


class Regressions(Rows):
    """p(y | x) = Σ_k w_k p_k(y | x): `weights_` (K,) are shares of the rows."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            **Rows.questions,
            "prior_labels": Question(label_column, asking("prior_labels")),
            "prior_probabilities": Question(probability_columns, asking("prior_probabilities")),
            "expected_response": Question(_response_column, asking("expected_response")),
        }
    )
    answers_lazily = False
    least_formula = "2·K·(p + 2)"

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Covariates with their response.

        Raises
        ------
        DegenerateDataError : before a fit, fewer rows than coefficients
        """
        opened = open_with_response(settings, x, arguments, shape)
        if shape is None:
            self.require_rows(settings, opened)
        return opened

    def require_rows(self, settings: Any, opened: Opened) -> None:
        """Refuse fewer rows than coefficients.

        Raises
        ------
        DegenerateDataError : both numbers
        """
        needed = int(self.count(settings)) * (opened.shape.features + 1)
        if opened.source.n_rows < needed:
            origin, rows = opened.source.schema.origin, opened.source.n_rows
            raise DegenerateDataError(
                f"{origin} has n_samples = {rows} rows for {needed} coefficients (n_components is "
                f"{settings.n_components}, each has an intercept and {opened.shape.features} more); at least as many "
                "rows are needed: fewer components, fewer covariates, or more rows"
            )

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory, the response behind its covariates."""
        return open_source(chunk.x, weight=chunk.weight, options=read_options(settings, DataArguments(), None))

    def behind(self, settings: Any, shape: Shape | None, arguments: DataArguments) -> Behind:
        """The response of a stream's records: told, of the fit, or the last number of records without names.

        Raises
        ------
        ParameterError : labels of something else than the response
        SchemaError : too few of them, or too many
        """
        told, fitted = arguments.response, None if shape is None else shape.response
        if told is not None and (not isinstance(told, str) or not told):
            raise ParameterError(f"response is {told!r}; it must be the name of a field of the records")
        name = fitted if told is None else told
        known = dict(arguments.categories or {})
        if known and (set(known) != {name} or not takes_labels(settings)):
            raise ParameterError(f"categories is {known!r:.200}; only labels of the response {name!r} may be told")
        labels = tuple(known[name]) if known and name is not None else None
        if shape is not None and labels is not None and labels != shape.classes:
            raise ParameterError(f"categories is {known!r:.200}, and this model has {shape.classes}: leave them out")
        if shape is None and labels is not None:
            require_number_of(settings, labels, f"categories of {name!r}")
        labels = labels if shape is None else shape.classes
        names = () if name is None else (name,)

        def shaped(whole: Shape) -> Shape:
            own = whole.names if not names or whole.names is None else whole.names[:-1]
            features = whole.features - 1
            return replace(whole, features=features, names=own, categories=None, response=name, classes=labels)

        categories = {} if labels is None or name is None else {name: labels}
        return Behind(names, 1, shaped, lambda fitted: fitted, categories=categories)

    def row_width(self, family: Any, features: int) -> int:
        """The covariates and the response."""
        return features + 1

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(p + 2); `n_features` counts the response."""
        return 2 * int(self.count(settings)) * (n_features + 1)

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> RegressionMixture:
        """The mixture of regressions."""
        start, prior = settings.face.starts()[settings.init_params], weight_prior(settings, fitted)
        return RegressionMixture(family, self.count(settings), start, prior)

    def check(self, settings: Any) -> None:
        """A distribution that is known, and settings that it has."""
        if settings.family not in DISTRIBUTIONS:
            raise ParameterError(f"family is {settings.family!r}; it must be one of {list(DISTRIBUTIONS)}")
        settings.face.family(settings, None)
        super().check(settings)

    def headline(self, settings: Any, features: int) -> str:
        """Components and covariates."""
        covariates = features - len(beside(settings))
        return f"{settings.n_components} components of {settings.family} responses to {covariates} covariates"


REGRESSIONS = Regressions()
