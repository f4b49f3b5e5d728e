"""The family, the model and the engine of an estimator, at what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamem.core.ports import Family, Model
from streamem.estimators.family_facts import free_parameters, settings_of, weighed_against
from streamem.estimators.hyperparameters import engine_of, generator_of
from streamem.online.learner import Learning
from streamem.running.engines import Engine
from streamem.running.federated import basis_of
from streamem.running.fitted import Fitted


def family_of(settings: Any, fitted: Fitted) -> Family:
    """The family at the present hyperparameters, with what the rows of the fit taught it."""
    asked: Family = settings.face.family(settings, fitted.shape)
    known, surveyed = asked, fitted.surveyed
    if surveyed is not None:
        same = surveyed.asked is asked or (not settings.face.objects and surveyed.settings == settings_of(asked))
        known = surveyed.family if same else asked
    family: Family = weighed_against(known, fitted.prior_weight.data)
    return family


def model_of(settings: Any, fitted: Fitted) -> Model:
    """The model at the present hyperparameters."""
    model: Model = settings.structure.model(settings, family_of(settings, fitted), fitted)
    return model


def row_width(settings: Any, model: Any, fitted: Fitted) -> int:
    """Values of a row as the model reads it."""
    features = 0 if fitted.shape is None else fitted.shape.features
    return int(settings.structure.row_width(model.family, features))


def engine_for(settings: Any, what: str, model: Model, fitted: Fitted, executor: Any) -> Engine:
    """How a call runs a pass; `what` is shown by a progress bar."""
    return engine_of(settings, what, model, row_width(settings, model, fitted), executor)


def learning_of(settings: Any, rule: Any, executor: Any) -> Learning:
    """How the estimator learns from mini-batches."""
    structure = settings.structure
    engine: Callable[[str, Model, Fitted], Engine] = lambda what, model, fitted: engine_for(  # noqa: E731
        settings, what, model, fitted, executor
    )
    return Learning(
        model=lambda fitted: model_of(settings, fitted),
        start=lambda model, sample, rng, shape: structure.start(settings, model, sample, rng, shape),
        least_rows=lambda n_features: int(structure.least_rows(settings, n_features)),
        generator=lambda: generator_of(settings),
        engine=engine,
        rule=rule,
        least_formula=structure.least_formula,
    )


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
    return basis_of(type(settings).__name__, fitted.state.params, names, regularization)
