"""The port of a model that a user writes as three NumPy functions: dicts in, dicts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import NoAbilityError, ParameterError

Array = NDArray[Any]

NEEDED = ("init", "e_step", "m_step")


@dataclass(frozen=True, eq=False)
class ModelRows:
    """Rows as functions of a user's own model get them.

    Attributes
    ----------
    x : (n, d) float64, in C order; NaN is a value that was not observed, where the model says ``missing = "values"``
    weight : (n,) float64 numbers >= 0, by which what each row adds to a sum is multiplied; ones where the data has none
    names : (d,) of the columns, or None where the data has none
    """

    x: Array
    weight: Array
    names: tuple[str, ...] | None = None


class UserModel(Protocol):
    """What `streamem.EM` takes: three functions, and whatever else it says it can use. Nothing has to be inherited.

    Laws: all that `e_step` returns are sums over rows, each row's part multiplied by its weight; ``log_likelihood`` is
    Σ weight · log p(row) at `params`, in nats; `m_step` maximizes the expected log-likelihood that such sums tell (or
    at least raises it), and ``m_step(c · stats) == m_step(stats)``. `streamem.conformance.check_model` runs them.
    """

    def init(self, sample: ModelRows, rng: np.random.Generator) -> Mapping[str, Any]:
        """Parameters to start from: names to numbers and arrays."""

    def e_step(self, params: Mapping[str, Any], chunk: ModelRows) -> Mapping[str, Any]:
        """Expected sufficient statistics of some rows under `params`, and their ``log_likelihood``."""

    def m_step(self, stats: Mapping[str, Any], previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """The next parameters.

        `stats` are sums over all rows, with ``rows``, ``weight`` and ``log_likelihood`` besides what `e_step` gave.
        """


ABILITIES = {
    "predict": "predict(params, chunk) -> (n,)",
    "predict_proba": "predict_proba(params, chunk) -> (n, m)",
    "transform": "transform(params, chunk) -> (n, m)",
    "scores": "scores(params, chunk) -> a dict of (n, *shape), the slopes of log p(row) by each parameter",
    "score_samples": "score_samples(params, chunk) -> (n,), log p(row) in nats",
    "sample": "sample(params, n, rng) -> (n, d)",
}
"""Functions that a user's model may have, by name."""


def as_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    """A dict of arrays that cannot be written to; what has no dimension is a number."""
    return {name: value[()] for name, value in values.items()}


def able(own: Any, question: str) -> Any:
    """A function that a user's model may have.

    Raises
    ------
    NoAbilityError : it has not
    """
    function = getattr(own, question, None)
    if function is None:
        raise NoAbilityError(f"{label_of(own)} has no {question}: give it {ABILITIES[question]}")
    return function


def takes_missing(own: Any) -> bool:
    """Whether a user's model says that rows may hold NaN.

    Raises
    ------
    ParameterError : it says something else than "values"
    """
    said = getattr(own, "missing", None)
    if said not in (None, "values"):
        raise ParameterError(
            f'missing of {label_of(own)} is {said!r}; "values" says that e_step takes NaN for what was not observed, '
            "and without it NaN is refused"
        )
    return said == "values"


def label_of(own: Any) -> str:
    """How messages name a user's model."""
    return str(getattr(own, "__name__", type(own).__name__))


def require_model(own: Any) -> None:
    """Refuse what is no model.

    Raises
    ------
    ParameterError : a class, or an object that lacks a function, or that says of missing values what cannot be
    """
    if isinstance(own, type):
        raise ParameterError(f"model is the class {own.__name__}; pass an object of it: {own.__name__}()")
    if lacking := [name for name in NEEDED if not callable(getattr(own, name, None))]:
        raise ParameterError(
            f"{label_of(own)} has no {', '.join(lacking)}; a model needs init(sample, rng), e_step(params, chunk) and "
            "m_step(stats, previous)"
        )
    takes_missing(own)
