"""What functions of a user's own model say of every row: their first answer tells shape and dtype of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports.own import able
from streamem.estimators.asking import Target, answered, opened_for
from streamem.estimators.making import model_of
from streamem.estimators.row_inputs import published_dtype
from streamem.estimators.structure import DataArguments, Question
from streamem.running.answers import Column
from streamem.running.fitted import Fitted
from streamem.running.row_tasks import Apply

Array = NDArray[Any]
M = TypeVar("M", bound=Callable[..., Any])

NAMES = {
    "predict": "prediction",
    "score_samples": "log_density",
    "predict_proba": "probability",
    "transform": "feature",
}
"""How columns of answers are called, by the function that gives them."""
WIDE = frozenset({"predict_proba", "transform"})
"""Functions that have several numbers for each row."""


class IfAble:
    """A method that an estimator has if its model has the function of that name, as scikit-learn's `available_if`."""

    def __init__(self, method: Callable[..., Any], function: str) -> None:
        update_wrapper(self, method)  # type: ignore[arg-type]
        self._method, self._function = method, function

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        """The method.

        Raises
        ------
        NoAbilityError : the model has no such function
        """
        if estimator is None:
            return self._method
        able(estimator.model, self._function)
        return self._method.__get__(estimator, owner)


def if_able(function: str) -> Callable[[M], M]:
    """Let a method be there if the model of the estimator has a function."""

    def decorated(method: M) -> M:
        return cast(M, IfAble(method, function))

    return decorated


@dataclass(frozen=True)
class Asking:
    """The task of a function of a user's model, for `Question`."""

    function: str

    def __call__(self, model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        """The task for one chunk."""
        describe = partial(model.described, self.function)
        return Apply(describe, params, names, column.dtype, column.row_nbytes, model.missing)


def own_answer(settings: Any, fitted: Fitted, function: str, x: Any, arguments: DataArguments, target: Target) -> Any:
    """What a function of the user's model says of every row of X.

    Raises
    ------
    NoAbilityError : the model has no such function
    ParameterError : it does not answer for every row
    """
    column = _column(settings, fitted, function, x, arguments)
    question = Question(lambda k, dtype, stored: column, Asking(function))
    return answered(settings, fitted, function.replace("_", " "), question, x, arguments, column, target)


def _column(settings: Any, fitted: Fitted, function: str, x: Any, arguments: DataArguments) -> Column:
    """The shape of the answer, as that to the first row has it."""
    model: Any = model_of(settings, fitted)
    opened, fitted = opened_for(settings, fitted, x, arguments)
    assert fitted.state is not None
    ref = next((ref for ref in opened.source.chunks() if ref.rows), None)
    if ref is None:
        raise DataError(f"{opened.source.schema.origin} has no rows to ask about")
    chunk = ref.load()
    first = Chunk(chunk.x[:1], None if chunk.weight is None else chunk.weight[:1])
    found = model.described(function, fitted.state.params, first)
    if (function == "score_samples" and found.ndim != 1) or (function in WIDE and found.ndim != 2):
        needed = "(n, m)" if function in WIDE else "(n,)"
        raise ParameterError(
            f"{function} of {model.label} returned shape {found.shape} for one row; {needed} is needed"
        )
    dtype = np.dtype(np.int64) if found.dtype.kind in "biu" else published_dtype(x)
    width = None if found.ndim == 1 else int(found.shape[1])
    name = NAMES[function]
    return Column(width, dtype, (name,) if width is None else tuple(f"{name}_{i}" for i in range(width)))
