"""`decode`: the most probable path of states, or the most probable state of every step, and how probable they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.estimators.making import engine_for, model_of
from streamem.estimators.steps import DECODERS, SEQUENCES
from streamem.running.answers import map_source
from streamem.running.fitted import Fitted
from streamem.running.sequence_tasks import PathPart, PathSum, ScorePath

Array = NDArray[Any]
QUESTIONS = {"viterbi": "path", "map": "labels"}


def decoder_of(settings: Any, algorithm: str | None) -> str:
    """What `algorithm` names, or that of the estimator if it is None.

    Raises
    ------
    ParameterError : neither "viterbi" nor "map"
    """
    chosen: str = settings.algorithm if algorithm is None else algorithm
    if chosen not in DECODERS:
        raise ParameterError(f"algorithm is {chosen!r}; it must be one of {sorted(DECODERS)}")
    return chosen


def best_path(settings: Any, fitted: Fitted, source: Source, executor: Any, keep: bool) -> tuple[float, Array]:
    """log p(x, z) of the most probable path z in nats, and z (n,) if it is kept."""
    assert fitted.state is not None
    model: Any = model_of(settings, fitted)
    params = model.for_pass_of(fitted.state.params, source.n_rows)
    task = ScorePath(model, params, source.schema.names)
    total, row = PathSum(), 0
    states = np.empty(source.n_rows if keep else 0, dtype=np.int64)

    def take(part: PathPart) -> None:
        nonlocal row
        total.add(part)
        if keep:
            states[row : row + len(part.states)] = part.states
            row += len(part.states)

    held = 8 * max((ref.rows for ref in source.chunks()), default=0)
    engine = engine_for(settings, "path", model, fitted, executor)
    map_source(source, task, engine, held, take, result=states.nbytes)
    return total.log_prob, states


def sum_of_best(settings: Any, fitted: Fitted, source: Source, executor: Any) -> float:
    """Σ over steps of the probability of the most probable state, which hmmlearn gives for "map"."""
    assert fitted.state is not None
    model, params, asked = model_of(settings, fitted), fitted.state.params, SEQUENCES.questions["posteriors"]
    column = asked.column(int(settings.n_components), np.dtype(np.float64), False)
    task = asked.task(model, params, source.schema.names, column)
    sums: list[float] = []
    held = column.row_nbytes * max((ref.rows for ref in source.chunks()), default=0)
    engine = engine_for(settings, "score of the states", model, fitted, executor)
    map_source(source, task, engine, held, lambda values: sums.append(float(np.nansum(values.max(axis=1)))))
    return float(np.sum(sums))


def stationary_distribution(transmat: Array) -> Array:
    """(K,) π = π·transmat."""
    values, vectors = np.linalg.eig(np.asarray(transmat).T)
    vector = np.abs(np.real(vectors[:, np.argmin(np.abs(values - 1))]))
    return np.asarray(vector / vector.sum())
