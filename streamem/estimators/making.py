"""The family, the model and the engine of an estimator, at what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError
from streamem.core.missing import Missing
from streamem.core.ports import Family, Model, full_family
from streamem.core.validation import require_seen
from streamem.estimators.beginning import begun
from streamem.estimators.family_facts import free_parameters, integrated, kind_of, settings_of, weighed_against
from streamem.estimators.hyperparameters import engine_of, generator_of
from streamem.families.gaussian.noisy_prior import seen_through_noise
from streamem.online.learner import Learning
from streamem.running.engines import Engine
from streamem.running.federated import basis_of
from streamem.running.fitted import Fitted, Shape
from streamem.running.reads import Reads


def family_of(settings: Any, fitted: Fitted) -> Family:
    """The family at the present hyperparameters, with what the rows of the fit taught it."""
    asked: Family = settings.face.family(settings, fitted.shape)
    surveyed, known = fitted.surveyed, None
    if surveyed is not None:
        same = surveyed.asked is asked or (settings.face.is_plain(settings) and surveyed.settings == settings_of(asked))
        known = surveyed.family if same else None
    if known is None:
        known = for_rows_of(asked, fitted.shape)
    family: Family = weighed_against(integrated(settings, known), fitted.prior_weight.data)
    noise = None if fitted.shape is None else fitted.shape.noise
    return family if noise is None else seen_through_noise(family, noise)


def for_rows_of(family: Family, shape: Shape | None) -> Family:
    """The family that knows names and categories of its columns, as far as there is a shape that tells them."""
    if shape is None:
        return family
    return full_family(family).for_columns(shape.features, shape.names, shape.categories)


def model_of(settings: Any, fitted: Fitted) -> Model:
    """The model at the present hyperparameters."""
    model: Model = settings.structure.model(settings, family_of(settings, fitted), fitted)
    model.integrates = settings.missing == "integrate"
    return model


def row_width(settings: Any, model: Any, fitted: Fitted) -> int:
    """Values of a row as the model reads it."""
    features = 0 if fitted.shape is None else fitted.shape.features
    return int(settings.structure.row_width(model.family, features))


def engine_for(settings: Any, what: str, model: Model, fitted: Fitted, executor: Any) -> Engine:
    """How a call runs a pass; `what` is shown by a progress bar."""
    return engine_of(settings, what, model, row_width(settings, model, fitted), executor)


def start_of(
    settings: Any,
    model: Any,
    sample: Chunk,
    rng: np.random.RandomState,
    shape: Shape,
    reads: Reads | None = None,
    exchanges: bool = False,
) -> Params:
    """Parameters to start from, of rows in which every column was observed somewhere.

    `reads` reads all chunks for starts that ask for them; without it they see the sample alone. `exchanges` as in
    `begun`.

    Raises
    ------
    DegenerateDataError : a column was observed nowhere in the sample
    """
    if model.missing is Missing.VALUES:
        require_seen(sample, shape.names)
    try:
        return begun(settings, model, sample, rng, shape, reads, exchanges)
    except ImpossibleValueError as error:
        if shape.names is None or error.place or error.column >= len(shape.names):
            raise
        place = f"column {error.column} {str(shape.names[error.column])!r} of the sample"
        raise ImpossibleValueError(error.value, error.column, error.needed, place) from error


def learning_of(settings: Any, rule: Any, executor: Any) -> Learning:
    """How the estimator learns from mini-batches."""
    structure = settings.structure
    engine: Callable[[str, Model, Fitted], Engine] = lambda what, model, fitted: engine_for(  # noqa: E731
        settings, what, model, fitted, executor
    )
    return Learning(
        model=lambda fitted: model_of(settings, fitted),
        start=lambda model, sample, rng, shape: _checked_start(settings, model, sample, rng, shape),
        least_rows=lambda n_features: int(structure.least_rows(settings, n_features)),
        generator=lambda: generator_of(settings),
        engine=engine,
        rule=rule,
        least_formula=structure.least_formula,
    )


def _checked_start(settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
    """Parameters to start from, once a stream has told how many columns given starting values have to fit."""
    settings.structure.check_start(settings, shape)
    return start_of(settings, model, sample, rng, shape)


def to_learn_from(settings: Any) -> Fitted:
    """What is fitted, or settings alone before there are parameters."""
    if settings.__sklearn_is_fitted__():
        fitted: Fitted = settings._to_go_on()
        return fitted
    return settings._fitted or Fitted()


def with_shape(settings: Any, fitted: Fitted) -> Fitted:
    """What is fitted, with the shape of rows that are drawn, where attributes set by hand leave it open."""
    if fitted.shape is not None:
        return fitted
    rows = next(settings.structure.pieces(settings, fitted, 1, 1, np.random.RandomState(0)))
    return replace(fitted, shape=Shape(int(rows.shape[1])))


def n_parameters(settings: Any, fitted: Fitted) -> int:
    """Free parameters: those of the structure and those of the family (all its numbers, if the family does not say)."""
    assert fitted.state is not None
    params = fitted.state.params
    own = int(settings.structure.n_parameters(settings, params))
    return own + free_parameters(family_of(settings, fitted), params.components)


def basis(settings: Any, fitted: Fitted) -> str:
    """What identifies the parameters to which shared statistics belong."""
    assert fitted.state is not None
    names = () if fitted.shape is None else fitted.shape.names or ()
    regularization = settings.face.key(settings).get("reg_covar")
    return basis_of(kind_of(settings), fitted.state.params, names, regularization)
