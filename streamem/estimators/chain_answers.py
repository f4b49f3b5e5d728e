"""What a fitted Gaussian chain says of steps: states, values, and the steps to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.boundary import POSTERIOR
from streamem.core.errors import DataError, ParameterError
from streamem.estimators.asking import Target, answered, opened_for
from streamem.estimators.hyperparameters import require_count
from streamem.estimators.making import engine_for, model_of
from streamem.estimators.steps import asking
from streamem.estimators.structure import DataArguments, Question
from streamem.models.gaussian_messages import Reach
from streamem.running.answers import Column, map_source
from streamem.running.fitted import Fitted

Array = NDArray[Any]


class States(NamedTuple):
    """States of steps.

    Attributes
    ----------
    means : (n, k), NaN for padding
    covariances : (n, k, k)
    """

    means: Array
    covariances: Array


class Forecast(NamedTuple):
    """Values of steps to come, for one sequence; of s sequences with an axis (s, …) before.

    Attributes
    ----------
    means : (steps, d)
    covariances : (steps, d, d) of values, their own noise included
    """

    means: Array
    covariances: Array


def states(
    settings: Any, fitted: Fitted, kind: str, x: Any, arguments: DataArguments, covariances: bool, target: Target
) -> Any:
    """Means of states, or `States`; written means stand before covariances, row by row."""
    k = int(settings.n_latent)
    names = tuple(f"state_{i}" for i in range(k))
    if not covariances:
        return told(settings, fitted, kind, names, x, arguments, target)
    names += tuple(f"covariance_{i}_{j}" for i in range(k) for j in range(k))
    found = told(settings, fitted, f"{kind}_moments", names, x, arguments, replace(target, plain=True))
    if target.out is not None:
        return found
    return States(found[:, :k], found[:, k:].reshape(-1, k, k))


def told(
    settings: Any,
    fitted: Fitted,
    method: str,
    names: Sequence[str] | None,
    x: Any,
    arguments: DataArguments,
    target: Target,
) -> Any:
    """What a method of the model says of every step; `names` of its columns, None of one number a step."""
    width = None if names is None else len(names)
    column = Column(width, np.dtype(np.float64), ("log_density",) if names is None else tuple(names))
    question = Question(lambda k, dtype, stored: column, asking(method, POSTERIOR))
    return answered(settings, fitted, method.replace("_", " "), question, x, arguments, column, target)


def feature_names(fitted: Fitted, x: Any, settings: Any, arguments: DataArguments) -> tuple[str, ...]:
    """Names of the columns of the data, or x0, x1, …"""
    if fitted.shape is None:
        fitted = opened_for(settings, fitted, x, arguments)[1]
    assert fitted.shape is not None
    return tuple(str(name) for name in fitted.shape.names or (f"x{j}" for j in range(fitted.shape.features)))


def forecast(settings: Any, fitted: Fitted, x: Any, steps: int, arguments: DataArguments, executor: Any) -> Forecast:
    """Values of the steps that follow each sequence.

    Raises
    ------
    ParameterError : a number of steps that is none, or no X where no endless sequence was learned
    DataError : no rows
    """
    require_count("steps", steps, 1)
    if x is None:
        return _one(_ahead(*_where_it_stands(settings, fitted), _published(settings, fitted), int(steps)))
    opened, fitted = opened_for(settings, fitted, x, arguments)
    if opened.source.n_rows == 0:
        raise DataError(f"{opened.source.schema.origin} has no rows after which anything could come")
    assert fitted.state is not None
    model: Any = model_of(settings, fitted)
    k, ends = int(settings.n_latent), list[Array]()
    column = Column(k + k * k, np.dtype(np.float64), ())
    task = asking("ends", POSTERIOR)(model, fitted.state.params, opened.source.schema.names, column)
    held = column.row_nbytes * max(ref.rows for ref in opened.source.chunks())
    map_source(opened.source, task, engine_for(settings, "forecast", model, fitted, executor), held, ends.append)
    last = np.concatenate(ends)
    return _one(_ahead(last[:, :k], last[:, k:].reshape(-1, k, k), _published(settings, fitted), int(steps)))


def _one(found: Forecast) -> Forecast:
    """A forecast of one sequence has no axis of sequences."""
    return Forecast(found.means[0], found.covariances[0]) if len(found.means) == 1 else found


def _published(settings: Any, fitted: Fitted) -> dict[str, Array]:
    assert fitted.state is not None
    own: dict[str, Array] = settings.structure.published(fitted.state.params, np.dtype(np.float64))
    return own


def _where_it_stands(settings: Any, fitted: Fitted) -> tuple[Array, Array]:
    """(1, k), (1, k, k) of the state at the last step of the endless sequence that was learned."""
    state = fitted.state
    if state is None or state.memory is None or "endless" not in state.memory:
        raise ParameterError(
            "X is None, which stands for the endless sequence that was learned last, and there is none: pass the "
            "sequences, or learn one by partial_fit(…, continued=True) first (of a model without parameters, the first "
            "such call counts as a sequence of its own)"
        )
    reach = Reach.unpacked(np.asarray(state.memory.endless.filtered), int(settings.n_latent))
    return (reach.vectors[0] + state.params.origin)[None], reach.matrices[1][None]


def _ahead(means: Array, covariances: Array, own: dict[str, Array], steps: int) -> Forecast:
    """(s, steps, d), (s, steps, d, d) from states (s, k), (s, k, k)."""
    a, q, c = (own[name] for name in ("transition_matrix_", "transition_covariance_", "observation_matrix_"))
    noise = own["observation_covariance_"]
    noise = np.diag(noise) if noise.ndim == 1 else noise
    values, spreads = [], []
    for _ in range(steps):
        means, covariances = means @ a.T, a @ covariances @ a.T + q
        values.append(means @ c.T + own["observation_offset_"])
        spreads.append(c @ covariances @ c.T + noise)
    return Forecast(np.stack(values, axis=1), np.stack(spreads, axis=1))


def filled(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, target: Target) -> Any:
    """X with expected values in place of NaN.

    Raises
    ------
    ParameterError : ``missing="error"``
    """
    if settings.missing != "integrate":
        raise ParameterError('impute needs a model that knows missing values: set_params(missing="integrate")')
    return told(settings, fitted, "imputed", feature_names(fitted, x, settings, arguments), x, arguments, target)
