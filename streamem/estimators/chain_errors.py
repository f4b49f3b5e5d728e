"""Standard errors of a Gaussian chain under the names of its attributes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from streamem.core.errors import DataError
from streamem.estimators.asking import opened_for
from streamem.estimators.making import engine_for, model_of
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors, UncertaintyWarning
from streamem.running.fitted import Fitted
from streamem.running.uncertainty.chain import chain_inference


def chain_standard_errors(
    settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, method: str, executor: Any
) -> StandardErrors:
    """Standard errors of the matrices, from two passes over X, and one for each point where chunks cut sequences.

    Raises
    ------
    ParameterError : another method, or too few steps or sequences for it
    DataError : no rows
    """
    opened, fitted = opened_for(settings, fitted, x, arguments)
    if opened.source.n_rows == 0:
        raise DataError(f"{opened.source.schema.origin} has no rows, which tell nothing")
    assert fitted.state is not None
    model: Any = model_of(settings, fitted)
    engine = engine_for(settings, "standard errors", model, fitted, executor)
    found = chain_inference(model, fitted.state.params, opened.source, engine, method)
    for problem in found.problems:
        warnings.warn(problem, UncertaintyWarning, stacklevel=3)
    return StandardErrors(
        found.errors,
        settings.structure.published(fitted.state.params, np.dtype(np.float64)),
        method,
        found.covariance,
        found.free,
        found.problems,
        found.log_likelihood,
        found.weight,
        found.units,
        found.reads,
    )
