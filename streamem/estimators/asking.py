"""What is asked of a fitted estimator: answers about every row, log-likelihoods, rows that are drawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Model, Source
from streamem.estimators.hyperparameters import budget_of
from streamem.estimators.identity import (
    WhereObserved,
    at_starts,
    columns_beside,
    contained,
    container_of,
    identifying,
    labelled,
)
from streamem.estimators.making import engine_for, model_of, n_parameters
from streamem.estimators.row_inputs import check_lazy, columns_of, published_dtype, read_options
from streamem.estimators.structure import DataArguments, Opened, Question
from streamem.running.answers import (
    Column,
    apply_here,
    apply_lazily,
    apply_to_array,
    apply_to_sequences,
    apply_to_store,
    is_dask,
    is_light,
    reduce_source,
    require_apart,
    score_here,
)
from streamem.running.fitted import Fitted, Shape
from streamem.sinks import Categories, ResultLayout, open_sink
from streamem.sources import ReadOptions

Array = NDArray[Any]
Path = str | os.PathLike[str]
SAMPLE_PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Target:
    """Where an answer goes, and where it is worked out; see `predict`.

    Attributes
    ----------
    id_columns : columns of X that are written beside the answer; None means its index
    plain : arrays, whatever X is and `set_output` was told
    """

    out: Path | None = None
    overwrite: bool = False
    executor: Any = None
    id_columns: Sequence[str] | str | None = None
    plain: bool = False


def answer(settings: Any, fitted: Fitted, question: str, x: Any, arguments: DataArguments, target: Target) -> Any:
    """The answer to a question of the structure about every row of X: an array, a lazy Dask array, or a path."""
    asked = settings.structure.questions[question]
    column = asked.column(int(settings.structure.count(settings)), published_dtype(x), target.out is not None)
    return answered(settings, fitted, question.replace("_", " "), asked, x, arguments, column, target)


def answered(
    settings: Any,
    fitted: Fitted,
    what: str,
    asked: Question,
    x: Any,
    arguments: DataArguments,
    column: Column,
    target: Target,
) -> Any:
    """What a task says of every row of X, in the shape of `column`; `what` is shown by a progress bar."""
    if target.id_columns is not None:
        arguments = replace(arguments, left_out=_left_out(target, fitted))
    lazily = settings.structure.answers_lazily and arguments.noise is None
    if lazily and is_dask(x) and target.out is None and arguments.feature_axis is None:
        return _lazily(settings, fitted, asked.task, x, arguments, column, target.plain)
    opened, fitted = opened_for(settings, fitted, x, narrowed(settings, fitted, arguments, column))
    assert fitted.state is not None
    model = model_of(settings, fitted)
    params = model.for_pass_of(fitted.state.params, opened.source.n_rows)
    task: Any = asked.task(model, params, opened.source.schema.names, column)
    if getattr(opened.source, "hides_unobserved", False):
        task = WhereObserved(task)
    options = identity_options(arguments, fitted)
    alone = target.out is None and not asked.per_sequence
    if alone and _is_light(settings, model, opened.source, target.executor):
        found = apply_here(opened.source, task)
        return found if target.plain else labelled(settings, x, options, column, found)
    engine = engine_for(settings, what, model, fitted, target.executor)
    if target.out is not None:
        require_apart(x, target.out)
    by = arguments.sequence_column or getattr(opened.source, "told", {}).get("sequence_column")
    if asked.per_sequence:
        return _of_sequences(settings, x, opened.source, task, column, engine, asked.added, target, by, options)
    if target.out is None:
        found = apply_to_array(opened.source, task, column, engine)
        return found if target.plain else labelled(settings, x, options, column, found)
    names = identifying(settings, x, target.out, target.id_columns, by, options)
    beside = columns_beside(x, names, opened.source.schema.origin, options)
    noun = settings.structure.noun
    return apply_to_store(opened.source, task, column, engine, target.out, target.overwrite, beside, noun)


def _of_sequences(
    settings: Any,
    x: Any,
    source: Any,
    task: Any,
    column: Column,
    engine: Any,
    added: bool,
    target: Target,
    by: str | None,
    options: ReadOptions,
) -> Any:
    """One answer for each sequence, beside or under what identifies it: the value in its first row."""
    container = container_of(settings)
    if target.out is None and (target.plain or container == "default"):
        return apply_to_sequences(source, task, column, engine, added, None, target.overwrite)
    names = target.id_columns if target.id_columns is not None else () if by is None else (by,)
    names = (names,) if isinstance(names, str) else tuple(names)
    if target.out is not None and target.id_columns is None and not os.fspath(target.out).endswith(".parquet"):
        names = ()
    rows = columns_beside(x, names, source.schema.origin, options)
    beside = {name: at_starts(pieces, source.offsets) for name, pieces in rows.items()}
    found = apply_to_sequences(source, task, column, engine, added, target.out, target.overwrite, beside)
    if target.out is not None:
        return found
    return contained(
        container, None, column, np.asarray(found), {name: np.concatenate([*ids]) for name, ids in beside.items()}
    )


def _left_out(target: Target, fitted: Fitted) -> tuple[str, ...]:
    """Columns that are no features, as they are written beside answers; those that were fitted are both.

    Raises
    ------
    ParameterError : nothing is written
    """
    if target.out is None:
        raise ParameterError("id_columns are written beside answers: pass out= with a path ending in .parquet")
    named = target.id_columns or ()
    known = None if fitted.shape is None else fitted.shape.all_names
    features = () if known is None else columns_of(known)
    return tuple(name for name in ((named,) if isinstance(named, str) else named) if name not in features)


def identity_options(arguments: DataArguments, fitted: Fitted) -> ReadOptions:
    """How X is looked at for what identifies its rows."""
    columns = arguments.columns
    if columns is None and fitted.shape is not None and fitted.shape.names is not None:
        columns = columns_of(fitted.shape.names)
    chosen = None if columns is None else tuple([columns] if isinstance(columns, str) else columns)
    return ReadOptions(columns=chosen, feature_axis=arguments.feature_axis, left_out=arguments.left_out)


def _is_light(settings: Any, model: Model, source: Source, executor: Any) -> bool:
    """Whether rows are so few that the calling thread answers at once, where nobody wants to see or limit anything.

    Steps of sequences are one chunk then, so that nothing lies beyond it.
    """
    if settings.memory_limit is not None or settings.n_threads is not None or settings.verbose:
        return False
    statistics = model.statistics_bytes(source.schema.n_features) // 8
    if not is_light(source.n_rows, statistics, executor):
        return False
    return not settings.structure.is_sequential or len(source.chunks()) == 1


def opened_for(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments) -> tuple[Opened, Fitted]:
    """X, and what is fitted; where nobody knows its shape yet (parameters set by hand), that of X."""
    opened: Opened = settings.structure.open(settings, x, arguments, fitted.shape)
    shape = opened.shape if fitted.shape is None else replace(fitted.shape, noise=opened.shape.noise)
    return opened, fitted if fitted.shape == shape else replace(fitted, shape=shape)


def narrowed(settings: Any, fitted: Fitted, arguments: DataArguments, column: Column) -> DataArguments:
    """Chunks of fewer rows where an answer is wider than its row."""
    width = column.width or 1
    d = width if fitted.shape is None else fitted.shape.features
    if width <= d:
        return arguments
    return replace(arguments, chunk_bytes=max(1, budget_of(settings).chunk_bytes * d // width))


def _lazily(
    settings: Any,
    fitted: Fitted,
    task: Callable[..., Any],
    x: Any,
    arguments: DataArguments,
    column: Column,
    plain: bool,
) -> Any:
    assert fitted.state is not None
    assert fitted.shape is not None
    names = arguments.columns if arguments.columns is not None else fitted.shape.names
    check_lazy(settings, x, names, fitted.shape.features)
    options = read_options(settings, DataArguments(columns=names), fitted.shape)
    answering = task(model_of(settings, fitted), fitted.state.params, None, column)
    return apply_lazily(x, options, answering, column, plain)


def total_of(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, executor: Any) -> tuple[float, float]:
    """Log-likelihood of X in nats, and its weight."""
    opened, fitted = opened_for(settings, fitted, x, arguments)
    source = opened.source
    if source.n_rows == 0:
        raise DataError(f"{source.schema.origin} has no rows to score")
    assert fitted.state is not None
    model = model_of(settings, fitted)
    params = model.for_pass_of(fitted.state.params, source.n_rows)
    task = settings.structure.score_task(model, params, source.schema.names)
    if _is_light(settings, model, source, executor) and len(source.chunks()) == 1:
        stats = score_here(source, task)
    else:
        stats = reduce_source(source, task, engine_for(settings, "score", model, fitted, executor), held=64)
    if not float(stats.weight) > 0:
        raise DataError(f"the sample weights sum to {float(stats.weight)}; at least one must be > 0")
    return float(stats.log_likelihood), float(stats.weight)


def scores_of(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, executor: Any) -> dict[str, float]:
    """Scores of X from one pass: rows, weight, log-likelihood, AIC, BIC."""
    total, weight = total_of(settings, fitted, x, arguments, executor)
    p = n_parameters(settings, fitted)
    return {
        "weight": weight,
        "log_likelihood": total,
        "log_likelihood_per_row": total / weight,
        "aic": -2 * total + 2 * p,
        "bic": -2 * total + p * float(np.log(weight)),
    }


def text_of(shape: Shape) -> Categories:
    """Values of each column of text in the order of their codes, None for other columns; () if no column is text."""
    known = shape.categories or {}
    return tuple(known.get(name) for name in shape.names or ()) if known else ()


def write_rows(
    fitted: Fitted, out: Path, n_rows: int, pieces: Callable[[int], Iterator[Array]], overwrite: bool
) -> None:
    """Write rows that are drawn piece by piece; `pieces` gives them from the number of rows a piece."""
    assert fitted.shape is not None
    d = fitted.shape.features
    names = fitted.shape.names or [f"x{j}" for j in range(d)]
    step = max(1, SAMPLE_PIECE_BYTES // (8 * d))
    layout = ResultLayout(
        rows=n_rows,
        width=d,
        dtype=np.dtype(np.float64),
        names=tuple(str(name) for name in names),
        chunk_rows=step,
        categories=text_of(fitted.shape),
    )
    sink = open_sink(out, layout, overwrite)
    try:
        for piece in pieces(step):
            sink.write(piece)
        sink.commit()
    except BaseException:
        sink.abort()
        raise
