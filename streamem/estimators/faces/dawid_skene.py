"""The face of `DawidSkene`: a table of classes × labels for each rater."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.families.rater_labels import RaterLabels
from streamem.initialization import Start
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Raters whose share of right labels is told in words."""


class DawidSkeneFace(Face):
    """confusion_ (R, K, K): in row k of a rater's table, how the rater labels items of class k."""

    names = ("confusion_",)
    title = "label, and how often each rater gives it to items of its class"

    def family(self, settings: Any, shape: Shape | None) -> RaterLabels:
        """Labels of as many raters as are known."""
        raters, labels = (None if values is None else len(values) for values in (settings.raters, settings.classes))
        return RaterLabels(raters, labels, prior=1.0 + float(settings.smoothing))

    def row_products(self, settings: Any, n_features: int) -> int:
        """A look-up for each class."""
        return 4 * int(settings.n_components)

    def vocabulary(self, settings: Any) -> Mapping[str, Sequence[Any]] | str:
        """Raters and classes, where the user names both."""
        if settings.raters is None or settings.classes is None:
            return "text"
        return {settings.rater: plain_values(settings.raters), settings.label: plain_values(settings.classes)}

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The tables."""
        k, raters = len(components.probabilities), len(components.starts) - 1
        tables = np.asarray(components.probabilities).reshape(k, raters, -1)
        return {"confusion_": np.ascontiguousarray(tables.transpose(1, 0, 2))}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the tables.

        Raises
        ------
        ParameterError : other shapes, or rows that are no probabilities
        """
        return components_of(attributes["confusion_"], int(settings.n_components), "confusion_")

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """A rater and a label."""
        return 2

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Other numbers of raters or classes."""
        starts = np.asarray(components.get("starts", ()))
        fits = starts.ndim == 1 and len(starts) > 1 and bool((np.diff(starts) == k).all()) and starts[0] == 0
        if not fits or np.shape(components.probabilities) != (k, int(starts[-1])):
            return f"the file's tables do not fit {k} classes"
        if settings.raters is not None and len(settings.raters) != len(starts) - 1:
            return f"{len(starts) - 1} raters were fitted, and raters names {len(settings.raters)}"
        return ""

    def given(self, settings: Any) -> dict[str, Any]:
        """Tables to start from."""
        return {} if settings.confusion_init is None else {"confusion_": settings.confusion_init}

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse starting values that are no probabilities, or of a shape that no classes have.

        Raises
        ------
        ParameterError : naming them
        """
        smoothing = settings.smoothing
        if isinstance(smoothing, bool) or not isinstance(smoothing, int | float | np.number) or not smoothing >= 0:
            raise ParameterError(f"smoothing is {smoothing!r}; it must be a number of votes >= 0")
        k = int(settings.n_components)
        if settings.confusion_init is not None:
            components_of(settings.confusion_init, k, "confusion_init")
        if settings.class_prior_init is None:
            return
        if settings.confusion_init is None:
            raise ParameterError("class_prior_init needs confusion_init: without tables EM begins from the votes alone")
        prior = np.asarray(settings.class_prior_init, dtype=np.float64)
        if prior.shape != (k,) or (prior < 0).any() or not abs(prior.sum() - 1.0) <= 1e-6:
            raise ParameterError(
                f"class_prior_init has shape {prior.shape} and sums to {prior.sum():.6g}; ({k},) numbers >= 0 that sum "
                "to 1 are needed"
            )

    def starts(self) -> Mapping[str, Start]:
        """The votes."""
        return {"votes": _equal}

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The label of each class, and how often each rater gives it to items of its class."""
        k, raters = len(components.probabilities), len(components.starts) - 1
        tables = np.asarray(components.probabilities).reshape(k, raters, -1)
        classes = getattr(settings, "classes_", range(k))
        return [f"{label!s}: {in_short(tables[j, :, j], SHOWN)}" for j, label in enumerate(classes)]

    def key(self, settings: Any) -> dict[str, Any]:
        """Columns, vocabularies, smoothing, and given starts."""
        given = {
            name: None if (value := getattr(settings, name)) is None else repr(np.asarray(value).tolist())
            for name in ("raters", "classes", "confusion_init", "class_prior_init")
        }
        columns = f"{settings.item}, {settings.rater}, {settings.label}"
        return {"columns": columns, "smoothing": float(settings.smoothing), **given}


def components_of(confusion: Any, k: int, what: str) -> Params:
    """Parameters of the family from tables (R, K, K).

    Raises
    ------
    ParameterError : another shape, or rows that are no probabilities
    """
    tables = np.asarray(confusion, dtype=np.float64)
    if tables.ndim != 3 or tables.shape[1:] != (k, k) or not len(tables):
        raise ParameterError(f"{what} has shape {tables.shape}; (raters, {k}, {k}) is needed")
    if not (tables >= 0).all() or (np.abs(tables.sum(axis=2) - 1.0) > 1e-6).any():
        raise ParameterError(f"the rows of {what} must be >= 0 and sum to 1: how a rater labels items of one class")
    chances = np.ascontiguousarray(tables.transpose(1, 0, 2)).reshape(k, -1)
    starts = np.arange(len(tables) + 1, dtype=np.int64) * k
    return Params(probabilities=chances, starts=starts, empty=np.zeros(k, dtype=np.bool_))


def plain_values(values: Any) -> tuple[Any, ...]:
    """Values as numbers and texts of Python's own."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)


def _equal(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Equal responsibilities: the votes of whole items come with the first pass."""
    return np.full((len(x), k), 1.0 / k)
