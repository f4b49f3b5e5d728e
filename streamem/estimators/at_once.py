"""Answers about a few rows of an array, for services that ask again and again: what stays is looked at once.

Any other call checks the estimator, opens its data, and makes a model and a task, which takes longer than to answer for
a row. Here the same functions answer, with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.estimators.asking import Target
from streamem.estimators.attributes import still_shown
from streamem.estimators.hyperparameters import check_hyperparameters
from streamem.estimators.identity import container_of
from streamem.estimators.making import model_of
from streamem.estimators.row_inputs import FLOATS
from streamem.estimators.structure import DataArguments
from streamem.running.answers import LIGHT_PRODUCTS, is_light
from streamem.running.fitted import Fitted
from streamem.running.row_tasks import Apply
from streamem.sources.array import ArrayChunkRef
from streamem.sources.options import DEFAULT_CHUNK_BYTES

Array = NDArray[Any]

MOST_TASKS = 8
"""That are kept, one for each question, number of rows and dtype."""


class Ready:
    """An estimator when it was looked at, and the tasks that answer by it."""

    def __init__(self, settings: Any, fitted: Fitted) -> None:
        assert fitted.shape is not None
        self._seen, self._fitted, self._features = dict(_attributes(settings)), fitted, fitted.shape.features
        self._model = model_of(settings, fitted)
        self._statistics = self._model.statistics_bytes(self._features) // 8
        self._tasks: dict[tuple[str, int, np.dtype[Any]], Apply] = {}

    def is_of(self, settings: Any) -> bool:
        """Whether every attribute is the very one that it was."""
        now, seen = _attributes(settings), self._seen
        return [*now] == [*seen] and all(map(is_, now.values(), seen.values()))

    def task(self, settings: Any, question: str, x: Array, executor: Any) -> Apply | None:
        """What answers for rows x; None of rows that are too many for one thread, or of other features."""
        wide = 8 * settings.structure.count(settings) * len(x)
        fits = x.shape[1] == self._features and max(x.nbytes, wide) <= DEFAULT_CHUNK_BYTES
        if not fits or not is_light(len(x), self._statistics, executor):
            return None
        known = self._tasks.get(key := (question, len(x), x.dtype))
        return self._made(settings, key) if known is None else known

    def _made(self, settings: Any, key: tuple[str, int, np.dtype[Any]]) -> Apply:
        assert self._fitted.state is not None
        question, n_rows, dtype = key
        if len(self._tasks) >= MOST_TASKS:
            self._tasks.clear()
        asked = settings.structure.questions[question]
        params = next((task.params for (_, rows, _), task in self._tasks.items() if rows == n_rows), None)
        if params is None:
            params = self._model.for_pass_of(self._fitted.state.params, n_rows)
        made: Apply = asked.task(
            self._model, params, None, asked.column(int(settings.structure.count(settings)), dtype, False)
        )
        self._tasks[key] = made
        return made


class Published(dict[str, Any]):
    """Attributes that a fitted estimator shows, by name, and what is ready to answer by them in this process."""

    ready: Ready | None = None


def at_once(settings: Any, question: str, x: Any, arguments: DataArguments, target: Target) -> Array | None:
    """The answer of a fitted estimator about a few rows; None where anything but these rows alone has to be looked at.

    Parameters
    ----------
    x : answered if it is an array (n, d) of floats, which has no names, and n is small

    Raises
    ------
    NotFittedError, ParameterError, DataError : as by any other way to the answer
    """
    if type(x) is not np.ndarray or x.ndim != 2 or x.dtype not in FLOATS or not 0 < len(x) <= LIGHT_PRODUCTS:
        return None
    if arguments.columns is not None or arguments.feature_axis is not None or arguments.noise is not None:
        return None
    if target.out is not None or target.id_columns is not None:
        return None
    if type(published := settings._published) is not Published:
        return None
    if (ready := published.ready) is None or not ready.is_of(settings):
        ready = published.ready = _looked_at(settings)
    task = None if ready is None else ready.task(settings, question, x, target.executor)
    if task is None:
        return None
    rows = np.ascontiguousarray(x)
    with one_blas_thread(brief=True):
        return task(Chunk(rows), ArrayChunkRef(rows, rows.dtype, 0, 0, len(rows)))


def _looked_at(settings: Any) -> Ready | None:
    """What an estimator is ready to answer by; None where it was set by hand, or more than rows is looked at."""
    fitted, chosen = settings._fitted, (settings.memory_limit, settings.n_threads, settings.chunk_bytes)
    if not settings.structure.takes_rows_as_they_are or chosen != (None, None, None) or settings.verbose:
        return None
    if fitted is None or fitted.state is None or fitted.shape is None or fitted.shape.names is not None:
        return None
    if container_of(settings) != "default" or not still_shown(settings, settings._published):
        return None
    settings._now()
    check_hyperparameters(settings)
    return Ready(settings, fitted)


def _attributes(settings: Any) -> Mapping[Any, Any]:
    """All that an estimator holds, and all that a family of the user's holds."""
    own: dict[Any, Any] = vars(settings)
    for name in settings.face.objects:
        within = getattr(own.get(name), "__dict__", {})
        own = {**own, **{(name, each): value for each, value in within.items()}}
    return own
