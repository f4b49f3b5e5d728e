"""Standard errors of a user's own model under the names of its parameters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.errors import DataError
from streamem.estimators.asking import opened_for
from streamem.estimators.making import engine_for, model_of
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors, UncertaintyWarning
from streamem.running.fitted import Fitted
from streamem.running.uncertainty import names_of, own_inference


def own_standard_errors(
    settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, method: str, executor: Any
) -> StandardErrors:
    """Standard errors of `params_`, from two passes over X.

    Raises
    ------
    ParameterError : another method, or one that the model cannot serve
    DataError : no rows
    """
    opened, fitted = opened_for(settings, fitted, x, arguments)
    if opened.source.n_rows == 0:
        raise DataError(f"{opened.source.schema.origin} has no rows, which tell nothing")
    assert fitted.state is not None
    model: Any = model_of(settings, fitted)
    engine = engine_for(settings, "standard errors", model, fitted, executor)
    params = fitted.state.params
    found = own_inference(model, params, opened.source, engine, method)
    for problem in found.problems:
        warnings.warn(problem, UncertaintyWarning, stacklevel=3)
    names = names_of(params)
    return StandardErrors(
        {"params_": _like(params.components, found.errors)},
        {"params_": params.components},
        method,
        found.covariance,
        tuple(names[place] for place in found.free),
        found.problems,
        found.log_likelihood,
        found.weight,
        found.units,
        found.reads,
    )


def _like(components: Params, numbers: Any) -> Params:
    """Numbers in the shapes of parameters."""
    made, first = {}, 0
    for name, value in components.items():
        made[name] = np.asarray(numbers[first : first + value.size]).reshape(value.shape)
        first += value.size
    return Params(**made)
