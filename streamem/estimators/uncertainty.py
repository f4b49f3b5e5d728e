"""Standard errors under the names of public attributes, by the delta method."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DataError, ParameterError
from streamem.estimators.asking import opened_for
from streamem.estimators.making import engine_for, model_of
from streamem.estimators.structure import DataArguments
from streamem.running.fitted import Fitted
from streamem.running.uncertainty import Coordinates, Inference, Information, asked_of, inferred, information_of

Array = NDArray[Any]
Numbers = dict[tuple[str, str], Array]
"""Arrays by the name of a public attribute, and by the dotted name within it where it holds several."""

INWARDS = 1e-3
"""By how much a probability at 0 is moved to see what it belongs to."""


NUDGE = 2.0**-12
"""By what share a number is moved to see what it belongs to."""


class UncertaintyWarning(UserWarning):
    """Some standard errors are missing or misleading, and why."""


@dataclass(frozen=True, eq=False)
class StandardErrors(Mapping[str, Any]):
    """Standard errors by the names of public attributes: arrays (or `Params`) shaped like these.

    NaN marks what has none, because it lies at the boundary or the data do not tell it; a warning has named it, and
    `problems` keep it. What is fixed has the error 0.

    Attributes
    ----------
    method : "observed", "opg" or "sandwich"
    estimates : the attributes, under the same names
    covariance : (p, p) of the free parameters
    free_parameters : (p,) their names; of probabilities that sum to 1, the largest is none of them
    problems : what stands in the way, in words
    log_likelihood : of the data, in nats
    weight, n_units : total weight of the rows; rows, or sequences, or groups, that were scored
    passes : how often the data was read
    """

    errors: Mapping[str, Any]
    estimates: Mapping[str, Any]
    method: str
    covariance: Array
    free_parameters: tuple[str, ...]
    problems: tuple[str, ...]
    log_likelihood: float
    weight: float
    n_units: int
    passes: int

    def __getitem__(self, name: str) -> Any:
        return self.errors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.errors)

    def __len__(self) -> int:
        return len(self.errors)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("errors", {}):
            raise AttributeError(f"StandardErrors has no {name!r}")
        return self.errors[name]

    def __repr__(self) -> str:
        return f"StandardErrors({self.method}: {', '.join(self.errors)}; {len(self.free_parameters)} free parameters)"


def standard_errors_of(
    settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, method: str, executor: Any
) -> StandardErrors:
    """Standard errors of what is fitted, from one pass over X.

    Raises
    ------
    ParameterError : another method, or too few rows for it
    MemoryLimitError : more free parameters than the memory limit, or the time of a decomposition, allows
    """
    known = known_of(settings, fitted, x, arguments, method, executor)
    information, model = known.information, known.model
    inference = inferred(information, method)
    for problem in inference.problems:
        warnings.warn(problem, UncertaintyWarning, stacklevel=3)

    def shown(params: Params) -> Numbers:
        return _shown(settings, model, params)

    errors = _errors(information, inference, shown)
    estimates = shown(information.params)
    return StandardErrors(
        _together(errors),
        _together(estimates),
        method,
        inference.covariance,
        tuple(information.names),
        inference.problems,
        information.log_likelihood,
        information.weight,
        information.units,
        information.reads,
    )


@dataclass(frozen=True, eq=False)
class Known:
    """What a pass over the data told, and of which model."""

    information: Information
    model: Any


def known_of(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, method: str, executor: Any) -> Known:
    """The information about what is fitted, from one pass over X."""
    asked = asked_of(method)
    settings.structure.refuse(settings, "standard errors")
    if not settings.structure.is_sequential and (arguments.lengths is not None or arguments.offsets is not None):
        raise ParameterError("lengths and offsets are those of sequences or groups; rows of this model stand alone")
    opened, fitted = opened_for(settings, fitted, x, arguments)
    if opened.source.n_rows == 0:
        raise DataError(f"{opened.source.schema.origin} has no rows, which tell nothing")
    assert fitted.state is not None
    model = model_of(settings, fitted)
    engine = engine_for(settings, "standard errors", model, fitted, executor)
    information = information_of(model, fitted.state.params, opened.source, engine, asked)
    if not information.weight > 0:
        raise DataError(f"the sample weights sum to {information.weight}; at least one must be > 0")
    return Known(information, model)


def _shown(settings: Any, model: Any, params: Params) -> Numbers:
    """Public attributes that are floats; of parameters of any family, the numbers that mean something to people."""
    double = np.dtype(np.float64)
    own = settings.face.published(settings, params.components, double)
    every = {**settings.structure.published(params, double), **own}
    found: Numbers = {}
    for name, value in every.items():
        if isinstance(value, Params):
            form = model.family.free_form(params.components, int(settings.structure.count(settings)))
            found |= {(name, path): np.asarray(numbers) for path, numbers in form.values.items()}
        elif name != "noise_box_" and np.asarray(value).dtype.kind == "f":
            found[name, ""] = np.asarray(value, dtype=np.float64)
    return found


def _together(numbers: Numbers) -> dict[str, Any]:
    """Arrays by the names of attributes; those with several arrays are `Params`."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in numbers):
        own = {path: value for (attribute, path), value in numbers.items() if attribute == name}
        found[name] = own[""] if "" in own else Params.unflatten(own)
        if isinstance(found[name], np.ndarray) and found[name].ndim == 0:
            found[name] = float(found[name])
    return found


def _errors(information: Information, inference: Inference, shown: Callable[[Params], Numbers]) -> Numbers:
    """The roots of J Σ Jᵀ for the derivatives J of all attributes by the free parameters (delta method)."""
    here = shown(information.params)
    columns = [(_flat(shown(up)) - _flat(shown(down))) / (2.0 * step) for down, up, step in _steps(information)]
    jacobian = np.array(columns).reshape(len(columns), -1).T if columns else np.zeros((_flat(here).size, 0))
    variance = np.einsum("ap,pq,aq->a", jacobian, inference.covariance, jacobian, optimize=True)
    error = np.sqrt(np.maximum(variance, 0.0))
    error[inference.touches(jacobian)] = np.nan
    moved = np.zeros(len(error), dtype=np.bool_)
    for params in _inwards(information):
        moved |= _flat(shown(params)) != _flat(here)
    error[moved & (error == 0)] = np.nan
    found, first = {}, 0
    for name, value in here.items():
        found[name] = error[first : first + value.size].reshape(value.shape)
        first += value.size
    return found


def _flat(numbers: Numbers) -> Array:
    return np.concatenate([value.ravel() for value in numbers.values()])


def _steps(information: Information) -> Iterator[tuple[Params, Params, float]]:
    """For each free parameter, the model's parameters with it moved down and up, and by how much."""
    coordinates, params = information.prepared.coordinates, information.params
    index = coordinates.index()
    places = {int(index[k, j]): (int(k), int(j)) for k, j in np.argwhere(index >= 0)[::-1]}
    for m in range(len(places)):
        k, j = places[m]
        step = float(coordinates.steps[k, j])
        down, up = (params.replace(components=coordinates.moved_alone(k, j, sign * step)) for sign in (-1.0, 1.0))
        yield down, up, step
    for s, step in enumerate(information.ties.steps.tolist()):
        yield information.ties.moved(params, s, -step), information.ties.moved(params, s, step), step


def _inwards(information: Information) -> Iterator[Params]:
    """The model's parameters with each probability that lies at 0 moved up."""
    prepared, ties, params = information.prepared, information.ties, information.params
    for held, is_shared in ((prepared.at_zero, False), (prepared.at_zero_shared, True)):
        for k, j in np.argwhere(held).tolist():
            yield params.replace(components=prepared.coordinates.inwards(k, j, is_shared, INWARDS))
    yield from _given_up(information)
    for place in np.flatnonzero(ties.at_zero).tolist():
        yield ties.inwards(params, place, INWARDS)


def _given_up(information: Information) -> Iterator[Params]:
    """The model's parameters with each number moved a little of the components that were left out."""
    prepared, params = information.prepared, information.params
    if not prepared.given_up.any():
        return
    known = prepared.coordinates
    every = Coordinates.of(known.family, known.params, known.n_components)
    value, size = np.abs(every.value()), np.abs(every.own).max(axis=1)
    for k, j in np.argwhere(every.active & prepared.given_up[:, None]).tolist():
        if not every.is_shared(j):
            amount = -NUDGE * (value[k, j] if value[k, j] > 0 else size[k])
            yield params.replace(components=every.moved_alone(k, j, float(amount)))
