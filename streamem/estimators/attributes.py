"""Public attributes of a fitted estimator: shown read-only, and recognized by identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from streamem.core.arrays import Params
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.state import State
from streamem.running.fitted import Fitted, Shape
from streamem.running.report import FitReport

Array = NDArray[Any]

OPTIONAL = (
    "n_features_in_",
    "feature_names_in_",
    "categories_",
    "classes_",
    "sequences_by_",
    "stream_positions_",
    "report_",
    "items_",
    "duration_means_",
    "duration_sizes_",
    "concomitant_intercept_",
    "concomitant_coef_",
)
"""Attributes that an earlier fit may have left and the next one may not have."""
FITTED = (*OPTIONAL, "converged_", "n_iter_", "lower_bound_", "lower_bounds_")
"""Attributes that a fit leaves beside the parameters."""

ELSEWHERE = {
    "n_features": "n_features_in_ (columns), and of categories n_categories_",
    "n_features_": "n_features_in_",
    "monitor_": "converged_, n_iter_, lower_bounds_ (by iteration), and report_ (what every pass took)",
    "min_covar": "reg_covar",
    "implementation": "nothing: probabilities are scaled, and in logarithms where they have to be",
    "covars_": "covariances_",
    "n_parameters": "_n_parameters()",
    "labels_": "predict(X)",
    "to_sklearn": "nothing: scikit-learn has no such model; save() writes a file that NumPy alone can read",
    "lower_bound": "lower_bound_",
    "predict_proba": "nothing: hidden states are Gaussian, smooth(X, covariances=True) tells where they are",
}
"""What attributes of hmmlearn, and some that scikit-learn has elsewhere, are called here."""


def absence(settings: Any, name: str) -> str:
    """Why an estimator has no attribute of a name, and what to do."""
    kind = type(settings).__name__
    plain = f"{kind!r} object has no attribute {name!r}"
    if name in (*settings.structure.names, *settings.face.names, *FITTED):
        return f"{plain} yet: call fit, load a model, or set the parameters by hand"
    return f"{plain}; here it is {ELSEWHERE[name]}" if name in ELSEWHERE else plain


def shown_parameters(settings: Any, params: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Parameters under their public names, read-only; in `dtype` where that holds all of them.

    Raises
    ------
    NumericalError : an attribute that is not finite
    """
    own = settings.face.published(settings, params.components, dtype)
    floats = {value.dtype for value in own.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}
    own = {**settings.structure.published(params, floats.pop() if len(floats) == 1 else np.dtype(np.float64)), **own}
    arrays = {name: value for name, value in own.items() if isinstance(value, np.ndarray)}
    if lost := [name for name, value in arrays.items() if not np.isfinite(value).all()]:
        raise NumericalError(
            f"{', '.join(lost)} cannot be represented in float64: squares of the data, or their inverses, overflow; "
            "rescale the data"
        )
    for value in arrays.values():
        value.setflags(write=False)
    return own


def shown_facts(fitted: Fitted) -> dict[str, Any]:
    """Everything else that a fitted estimator shows."""
    shown: dict[str, Any] = {}
    if (shape := fitted.shape) is not None:
        shown["n_features_in_"] = shape.width
        if (names := shape.all_names) is not None:
            shown["feature_names_in_"] = np.asarray(names, dtype=object)
        if shape.categories:
            shown["categories_"] = {name: list(values) for name, values in shape.categories.items()}
        if shape.classes:
            shown["classes_"] = np.asarray(shape.classes)
        if shape.sequences:
            shown["sequences_by_"] = dict(shape.sequences)
    if fitted.stream is not None:
        shown["stream_positions_"] = {name: dict(positions) for name, positions in fitted.stream.positions.items()}
    if fitted.state is not None:
        shown |= {
            "converged_": fitted.state.converged,
            "n_iter_": fitted.state.iteration,
            "lower_bound_": fitted.state.last_known,
            "lower_bounds_": fitted.lower_bounds,
        }
        if fitted.report is not None:
            shown["report_"] = fitted.report
    return shown


def still_shown(settings: Any, published: Mapping[str, Any]) -> bool:
    """Whether the attributes are those that were published: the very objects, or equal ones."""
    own = vars(settings)
    return all(own.get(name) is value or _same(own.get(name), value) for name, value in published.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


def attributes_of(settings: Any) -> dict[str, Any]:
    """The attributes as they are now, with those that follow from them."""
    names = {*settings.structure.names, *settings.face.names, *(n for n in vars(settings) if not n.startswith("_"))}
    found = {name: getattr(settings, name, None) for name in names if name.endswith("_")}
    return settings.face.completed(settings, {name: value for name, value in found.items() if value is not None})


def require_fitted(estimator: Any) -> None:
    """Refuse an estimator that is neither fitted nor set by hand.

    Raises
    ------
    NotFittedError : in scikit-learn's words
    """
    if not estimator.__sklearn_is_fitted__():
        check_is_fitted(estimator)


def is_complete(settings: Any) -> bool:
    """Whether there is every attribute from which parameters are made, fitted or set by hand."""
    return all(
        hasattr(settings, name) for name in (*settings.structure.names, *settings.face.names)
    ) or not missing_from(settings, attributes_of(settings))


def missing_from(settings: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Attributes without which there are no parameters."""
    return [name for name in (*settings.structure.names, *settings.face.names) if name not in attributes]


def set_by_hand(settings: Any, fitted: Fitted, published: Mapping[str, Any]) -> Fitted:
    """What attributes that a user set or changed since the fit `fitted` amount to.

    Raises
    ------
    ParameterError : attributes that are missing, contradict each other, or do not fit the hyperparameters
    """
    attributes = attributes_of(settings)
    if missing := missing_from(settings, attributes):
        raise ParameterError(f"{', '.join(missing)} are neither fitted nor set; call fit, or set them all")
    settings.structure.check_by_hand(settings, attributes)
    width = settings.face.width(settings, attributes)
    require_sizes(settings, attributes, width or (0 if fitted.shape is None else fitted.shape.features))
    names = (*settings.structure.names, *settings.face.names)
    if fitted.state is not None and any(published.get(name) is attributes[name] for name in names):
        require_fit(settings, fitted)  # of as many components as features, "diag" looks like "tied"
    shape = fitted.shape
    if shape is None and width is not None:
        shape = Shape(width, dtype=_dtype_of(attributes[settings.structure.names[0]]))
    components = settings.face.rebuilt(settings, attributes, shape)
    params = settings.structure.rebuilt(settings, attributes, components)
    report = fitted.report or FitReport("set by hand", 0, 0 if shape is None else shape.features)
    return replace(fitted, state=State(params), shape=shape, report=report, seen="")


def _dtype_of(values: Any) -> np.dtype[Any]:
    """float32 of float32 arrays; float64 of everything else."""
    is_float32 = isinstance(values, np.ndarray) and values.dtype == np.float32
    return np.dtype(np.float32 if is_float32 else np.float64)


def require_sizes(settings: Any, attributes: Mapping[str, Any], d: int) -> None:
    """Refuse attributes of other shapes than the hyperparameters need.

    Raises
    ------
    ParameterError : naming both
    """
    k, words = settings.structure.count(settings), settings.face.sizes(settings)
    needed = {**settings.structure.shapes(k), **settings.face.shapes(settings, k, d)}
    for name, shape in needed.items():
        if name not in attributes:
            continue  # of another kind of model than was fitted, which `require_fit` names
        found = np.shape(np.asarray(attributes[name]))
        if found == shape:
            continue
        if words:
            raise ParameterError(
                f"{name} has shape {found}, and {words} need {shape}: set these back to what was fitted, or fit anew"
            )
        raise ParameterError(
            f"{found[0] if found else 0} {settings.structure.noun}s were fitted, and n_components is {k} now: set it "
            "back, or fit anew"
        )


def require_fit(settings: Any, fitted: Fitted, features: int | None = None) -> None:
    """Refuse parameters that were fitted with other hyperparameters, or to rows of other features.

    Raises
    ------
    ParameterError : the hyperparameters were changed since
    """
    assert fitted.state is not None
    try:
        wrong = misfit(settings, fitted.state.params, _features(fitted) if features is None else features)
    except (AttributeError, ValueError) as error:
        raise ParameterError(_now_unfit(error)) from error
    if wrong:
        raise ParameterError(_now_unfit(wrong))


def _now_unfit(why: Any) -> str:
    return f"the fitted parameters do not fit the hyperparameters as they are now ({why}): set them back, or fit anew"


def misfit(settings: Any, params: Params, features: int) -> str:
    """Why parameters are not of this estimator's hyperparameters; "" if they are."""
    k = settings.structure.count(settings)
    if hasattr(settings, "noise") and bool(settings.noise) != ("noise_weight" in params):
        return f"noise is {settings.noise}, and the parameters are {'without' if settings.noise else 'with'} noise"
    if wrong := settings.structure.misfit(params, k):
        return str(wrong)
    return str(settings.face.misfit(settings, params.components, k, features))


def _features(fitted: Fitted) -> int:
    return 0 if fitted.shape is None else fitted.shape.features
