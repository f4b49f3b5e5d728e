"""Model files: hyperparameters, the exact state and the public attributes in one archive, without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from streamem.core.archive import write_archive
from streamem.core.errors import ModelFileError, ParameterError, StreamemError
from streamem.core.faults import require_faultless
from streamem.core.state import State
from streamem.core.stored_objects import SoleWriter
from streamem.estimators.attributes import misfit, shown_parameters
from streamem.estimators.family_data import KNOWN, data_of, family_of_data
from streamem.estimators.making import model_of, row_width
from streamem.estimators.persistence import KIND, Parts, load_parts, one_way, public_faults
from streamem.running.fitted import Fitted, PriorWeight, Shape, StreamPlace
from streamem.running.report import FitReport

Path = str | os.PathLike[str]
UNTRUSTED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)


def write_model(
    path: Path,
    settings: Any,
    fitted: Fitted,
    public: Mapping[str, Any],
    keep: int = 0,
    only: SoleWriter | None = None,
) -> None:
    """Write a fitted estimator.

    Parameters
    ----------
    public : parameters under their public names, so that ``numpy.load`` shows them too
    keep : earlier generations of the file that stay
    only : of an address, who alone may write there

    Raises
    ------
    OutputError : the disk is full or the folder is missing; an earlier file is intact
    """
    assert fitted.state is not None
    arrays = {f"state.{name}": value for name, value in fitted.state.to_arrays().items()}
    arrays |= {name: value for name, value in public.items() if isinstance(value, np.ndarray)}
    meta = {**_meta(settings, fitted), "parameters": {}, "mappings": {}}
    for name, value in settings.get_params(deep=False).items():
        if name in settings.face.objects and not settings.face.is_plain(settings):
            if (told := data_of(value)) is not None:
                meta["families"] = {name: told}
            continue
        if isinstance(value, np.random.RandomState):
            value = None
        if value is None or isinstance(value, str | bool | int | float):
            meta["parameters"][name] = value
        elif isinstance(value, np.generic):
            meta["parameters"][name] = value.item()
        elif isinstance(value, Mapping):
            meta["mappings"][name] = [[key, np.asarray(entry).tolist()] for key, entry in value.items()]
        elif _is_texts(value):
            meta["parameters"][name] = [str(text) for text in value]
        elif _is_ragged(value):
            meta["parameters"][name] = [[int(number) for number in row] for row in value]
        else:
            arrays[f"parameter.{name}"] = np.asarray(value)
    write_archive(path, KIND, meta, arrays, keep=keep, only=only)


def _is_texts(value: Any) -> bool:
    """Whether a value is a list of texts, such as names of columns."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(text, str) for text in value)


def _is_ragged(value: Any) -> bool:
    """Whether a value is lists of different lengths, which make no array."""
    rows = isinstance(value, list | tuple) and all(isinstance(row, list | tuple) for row in value)
    return rows and len({len(row) for row in value}) > 1


def _meta(settings: Any, fitted: Fitted) -> dict[str, Any]:
    shape, report = fitted.shape, fitted.report or FitReport()
    assert shape is not None
    meta: dict[str, Any] = {
        "class": type(settings).__name__,
        "n_features_in": int(shape.features),
        "feature_names_in": list(shape.names or ()),
        "lower_bounds": [float(value) for value in fitted.lower_bounds],
        "report": report.to_dict(),
        "seen": fitted.seen,
        "categories": {name: list(values) for name, values in (shape.categories or {}).items()},
        "sequences": dict(shape.sequences),
        **({} if shape.response is None else {"response": shape.response}),
        **({} if shape.classes is None else {"classes": list(shape.classes)}),
        "published_dtype": str(shape.dtype),
        "data_weight": fitted.prior_weight.data,
        "steps_weight": fitted.prior_weight.steps,
    }
    if shape.covariates:
        meta["transition_covariates"] = [list(shape.covariates), list(shape.covariate_names or ())]
    if shape.shared:
        meta["shared_covariates"] = list(shape.shared)
    if fitted.stream is not None:
        meta["stream_positions"] = fitted.stream.positions
        if fitted.stream.lengths:
            meta["live_lengths"] = fitted.stream.lengths
    return meta


def require_savable(settings: Any, fitted: Fitted) -> None:
    """Refuse attributes that were set by hand and that `read_model` would refuse.

    Raises
    ------
    ParameterError : naming what contradicts itself
    """
    if found := faults_of(settings, fitted):
        raise ParameterError(
            f"the attributes as they are now contradict themselves: {'; '.join(found)}. Nothing was written; set "
            "them right, or fit anew"
        )


def faults_of(settings: Any, fitted: Fitted) -> list[str]:
    """What contradicts itself in parameters."""
    assert fitted.state is not None
    model = model_of(settings, fitted)
    k, width = int(settings.structure.count(settings)), row_width(settings, model, fitted)
    return model.faults(fitted.state.params, k, width)


def read_model(cls: type[Any], path: Path, objects: Mapping[str, Any], newest: bool = False) -> tuple[Any, Fitted]:
    """An unfitted estimator of the class with the hyperparameters of a file, and what was fitted.

    Parameters
    ----------
    objects : hyperparameters that are code
    newest : take the newest generation of the file that can be read

    Raises
    ------
    ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
    ParameterError : the family was code of the user, and `objects` holds none, or another one; or what is no
        hyperparameter
    """
    if unknown := sorted(objects.keys() - set(signature(cls).parameters)):
        raise ParameterError(f"load of a {cls.__name__} takes its hyperparameters, and {unknown[0]!r} is none of them")
    parts = load_parts(path, cls.__name__, newest=newest)
    given = {**parts.parameters, **_families(cls, path, parts, objects), **objects}
    if lacking := sorted(cls.face.objects - given.keys()):
        again = ", ".join(f"{name}=..." for name in lacking)
        raise ParameterError(
            f"{path} holds a {cls.__name__} whose {' and '.join(lacking)} is code: load it with "
            f"{cls.__name__}.load(path, {again})"
        )
    try:
        settings = cls(**given)
        return settings, _restored(path, settings, parts)
    except StreamemError as error:
        if told := _other_family(parts, objects):
            raise ParameterError(f"{path} holds a {cls.__name__} of {told}") from error
        raise
    except UNTRUSTED as error:
        raise ModelFileError(f"{path} cannot be trusted as a {cls.__name__}: {error!r}") from error


def _other_family(parts: Parts, objects: Mapping[str, Any]) -> str:
    """What was passed in place of the family that the file tells, in words; "" where that is alike, or unknown."""
    told = parts.meta.get("families")
    for name, data in told.items() if isinstance(told, dict) else ():
        given = data_of(objects.get(name))
        if given is not None and isinstance(data, dict) and data.get("family") in KNOWN and given != data:
            return f"{data['family']}, and {name}={objects[name]!r:.200} was passed: leave {name}= out"
    return ""


def _families(cls: type[Any], path: Path, parts: Parts, objects: Mapping[str, Any]) -> dict[str, Any]:
    """Families that the file tells as data, but for those that were given."""
    try:
        told = dict(parts.meta.get("families") or {})
        asked = cls.face.objects - objects.keys()
        return {name: family_of_data(data) for name, data in told.items() if name in asked}
    except UNTRUSTED as error:
        again = "load it with the version that wrote it, or pass family=..."
        raise ModelFileError(f"{path} tells of no family that this version can make ({error}): {again}") from error


def _restored(path: Path, settings: Any, parts: Parts) -> Fitted:
    meta, state = parts.meta, parts.state
    features = int(meta["n_features_in"])
    settings.structure.sized(settings, features, state.params)
    if wrong := misfit(settings, state.params, features):
        raise ModelFileError(wrong)
    fitted = _fitted(meta, state, features)
    require_faultless(path, state.faults() + faults_of(settings, fitted))
    public = shown_parameters(settings, state.params, np.dtype(meta["published_dtype"]))
    arrays = {name: value for name, value in public.items() if isinstance(value, np.ndarray)}
    require_faultless(path, public_faults(parts.public, arrays))
    return fitted


def _fitted(meta: Mapping[str, Any], state: State, features: int) -> Fitted:
    names = tuple(meta["feature_names_in"]) or None
    categories = {name: tuple(values) for name, values in dict(meta.get("categories") or {}).items()}
    ways = one_way(meta["sequences"]) if meta.get("sequences") else {}
    positions, driving = meta.get("transition_covariates") or ((), ())
    shape = Shape(
        features,
        names,
        categories or None,
        dtype=np.dtype(meta["published_dtype"]),
        sequences=ways,
        covariates=tuple(int(at) for at in positions),
        covariate_names=tuple(str(name) for name in driving) or None,
        shared=tuple(int(at) for at in meta.get("shared_covariates") or ()),
        response=None if meta.get("response") is None else str(meta["response"]),
        classes=tuple(meta["classes"]) if meta.get("classes") else None,
    )
    weights = [None if (value := meta.get(name)) is None else float(value) for name in ("data_weight", "steps_weight")]
    stream = None
    if "stream_positions" in meta or "live_lengths" in meta:
        stream = StreamPlace(dict(meta.get("stream_positions", {})), dict(meta.get("live_lengths", {})))
    report = FitReport.from_dict(meta["report"])
    return Fitted(state, shape, report, str(meta["seen"]), PriorWeight(*weights), stream=stream)
