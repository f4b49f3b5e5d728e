"""Responses that are labels: text, truth values or categories, in sorted order the codes 0, 1, … of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError, ParameterError, SchemaError
from streamem.running.fitted import Shape
from streamem.sources import ReadOptions, open_source

Array = NDArray[Any]

LABELLED = ("binomial", "multinomial")
"""Distributions of a response that is one of several labels."""
PLAIN = (str, bool, int, float)


def takes_labels(settings: Any) -> bool:
    """Whether each response is one label: of multinomial responses, and of binomial ones of one trial."""
    return settings.family == "multinomial" or (settings.family == "binomial" and settings.trials in (1, None))


def as_numbers(settings: Any, response: Any, shape: Shape | None) -> tuple[Array, tuple[Any, ...] | None]:
    """Responses as an array of numbers, and the labels in the order of their codes; None of numbers.

    Parameters
    ----------
    shape : of the fit, which knows the labels; None before a fit

    Raises
    ------
    SchemaError : no numbers, where these are needed
    DataError : a label that the fit did not know
    """
    array, known = np.asarray(response), None if shape is None else shape.classes
    if known is None and not _are_labels(settings, array, shape is None):
        return _numbers(settings, array), None
    if not takes_labels(settings):
        raise SchemaError(f"y holds labels, such as {_first(array)!r}; {_numbers_are_needed(settings)}")
    if known is None and shape is not None:
        raise SchemaError(f"y holds labels, such as {_first(array)!r}, and the fit knew codes 0, 1, …; pass such")
    there, own = _known_values(array)
    classes = sorted_classes(settings, set(own), "y") if known is None else known
    codes = {label: code for code, label in enumerate(classes)}
    if unknown := [label for label in dict.fromkeys(own) if label not in codes]:
        row = int(np.flatnonzero(there)[own.index(unknown[0])])
        raise DataError(
            f"y holds {unknown[0]!r} in row {row}, which the fit did not know; it knows {list(classes)[:20]}: leave "
            "such rows out, or fit to rows that hold it"
        )
    out = np.full(len(there), np.nan)
    out[there] = [codes[label] for label in own]
    return out.reshape(array.shape), classes


def sorted_classes(settings: Any, found: set[Any], what: str) -> tuple[Any, ...]:
    """Labels in the order of their codes.

    Raises
    ------
    SchemaError : they have no order, or too few of them were found, or too many
    """
    try:
        classes = tuple(sorted(found))
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in found})
        raise SchemaError(f"{what} mixes {' and '.join(kinds)}; labels of one kind are needed") from error
    require_number_of(settings, classes, what)
    return classes


def require_number_of(settings: Any, classes: tuple[Any, ...], what: str) -> None:
    """Refuse as many labels as no response of the distribution has, and labels that are told twice.

    Raises
    ------
    SchemaError : how many, and how many are needed
    """
    if twice := [label for label in classes if classes.count(label) > 1]:
        raise SchemaError(f"{what} holds the label {twice[0]!r} twice; each is needed once, in the order of codes")
    if len(classes) < 2 or (settings.family == "binomial" and len(classes) > 2):
        needed = "two are needed" + (", or family='multinomial'" if len(classes) > 2 else "")
        raise SchemaError(f"{what} holds {len(classes)} label(s), {list(classes)[:20]}; {needed}")
    wanted = settings.n_classes if settings.family == "multinomial" else None
    if wanted is not None and wanted != len(classes):
        raise SchemaError(f"{what} holds {len(classes)} labels, {list(classes)[:20]}, and n_classes is {wanted}")


def classes_of_column(settings: Any, x: Any, name: str) -> tuple[str, ...] | None:
    """Labels that a column of text holds, from one pass over it; None of a column of numbers.

    Raises
    ------
    SchemaError : labels without an order, too few or too many of them
    """
    if not takes_labels(settings):
        return None
    column = open_source(x, options=ReadOptions(columns=(name,), categories="text"))
    values = (column.schema.categories or {}).get(name)
    return None if values is None else sorted_classes(settings, set(values), f"column {name!r}")


def require_no_text(settings: Any, x: Any, name: str) -> None:
    """Refuse a column of text as a response that counts or measures; of text nothing is read.

    Raises
    ------
    SchemaError : what responses have to be
    """
    try:
        open_source(x, options=ReadOptions(columns=(name,)))
    except SchemaError as error:
        open_source(x, options=ReadOptions(columns=(name,), categories={name: ()}))  # which says if there is no column
        raise SchemaError(
            f"column {name!r} holds no numbers, and {_numbers_are_needed(settings)}; labels are for family='binomial' "
            "without trials, and 'multinomial'"
        ) from error


def _numbers_are_needed(settings: Any) -> str:
    several = "of several trials " if settings.family == "binomial" else ""
    return f"{settings.family} responses {several}are numbers"


def require_labels(settings: Any) -> None:
    """Refuse to tell labels of responses that are none.

    Raises
    ------
    ParameterError : they count or measure
    """
    if not takes_labels(settings):
        raise ParameterError(
            f"predict_class is for labels, and {settings.family} responses here count or measure: use predict_response"
        )


def label_of(chances: Array, classes: tuple[Any, ...] | None) -> Array:
    """The most probable label (n,) by expected responses: (n, C) chances, or (n,) of the second of two labels."""
    codes = (chances > 0.5).astype(np.intp) if chances.ndim == 1 else chances.argmax(axis=1)
    return codes if classes is None else np.asarray(classes)[codes]


def labels_of(codes: Array, classes: tuple[Any, ...] | None) -> Array:
    """Labels (n,) of codes, None where these are NaN; codes themselves where there are no labels."""
    if classes is None:
        return codes
    known = ~np.isnan(codes)
    if known.all():
        return np.asarray(classes)[codes.astype(np.intp)]
    out = np.full(len(codes), None, dtype=object)
    out[known] = np.asarray(classes, dtype=object)[codes[known].astype(np.intp)]
    return out


def _are_labels(settings: Any, array: Array, is_new: bool) -> bool:
    """Whether responses are text or truth values, or before a fit, numbers of categories that are no codes 0, 1, …."""
    if array.dtype.kind == "b":
        return is_new and takes_labels(settings)
    if array.dtype.kind in "US":
        return True
    if array.dtype == object:
        return any(isinstance(_plain(value), str | bool) for value in array.ravel() if not is_missing(value))
    countable = settings.family == "multinomial" and settings.n_classes is None and array.dtype.kind in "iuf"
    if not is_new or not countable:
        return False
    found = np.unique(array[np.isfinite(array)])
    whole = len(found) > 0 and bool((found == np.floor(found)).all())
    return whole and not np.array_equal(found, np.arange(len(found)))


def _known_values(array: Array) -> tuple[NDArray[np.bool_], list[Any]]:
    """Which values (n,) are there, and these."""
    values = array.ravel().astype(object)
    there = np.array([not is_missing(value) for value in values], dtype=bool)
    own = [_plain(value) for value in values[there]]
    return there, [int(value) if isinstance(value, float) and value.is_integer() else value for value in own]


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN, or what pandas has in their place."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _numbers(settings: Any, array: Array) -> Array:
    if array.dtype == object:
        try:
            array = np.array([np.nan if is_missing(value) else value for value in array.ravel()], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"Unknown label type: y holds objects that are no numbers ({error})") from error
    if array.dtype.kind not in "biuf":
        more = " or labels" if takes_labels(settings) else ""
        raise SchemaError(f"y holds {array.dtype}; numbers{more} are needed")
    return array


def _first(array: Array) -> Any:
    return next((_plain(value) for value in array.ravel() if not is_missing(value)), None)


def _plain(value: Any) -> Any:
    """A value of Python's own, which model files hold.

    Raises
    ------
    SchemaError : a value of another kind
    """
    found = value.item() if isinstance(value, np.generic) else value
    if isinstance(found, bytes):
        found = found.decode(errors="replace")
    if not isinstance(found, PLAIN):
        raise SchemaError(f"Unknown label type: y holds a {type(found).__name__}; labels are text, numbers or bool")
    return found
