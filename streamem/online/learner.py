"""Online EM: one mini-batch after the other; `step` makes of a fitted model and a batch the next fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamem.algorithms import HalfLife, PowerLaw, StepSize, StepwiseEM
from streamem.core.arrays import Params
from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk, covariates_of
from streamem.core.errors import DataError, DegenerateDataError, ImpossibleValueError, ParameterError
from streamem.core.ports import ChunkDone, Executor, Model, Source
from streamem.core.sequences import Sequences
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.initialization.sampling import located_in_source
from streamem.kernels.plain_kernel import drop_kernel
from streamem.running.answers import reduce_source, take_sample
from streamem.running.engines import Engine
from streamem.running.fit import EStep
from streamem.running.fitted import Fitted, Shape
from streamem.running.report import TOMBSTONES, FitReport
from streamem.sources import open_sequences, open_source
from streamem.sources.apart import Apart

PATIENCE = 10
"""How many times the least number of rows may be kept while no start can be made of them."""


@dataclass(frozen=True)
class Learning:
    """How an estimator learns from mini-batches: what a step needs to know of its hyperparameters.

    Attributes
    ----------
    model : the model for what is fitted so far
    start : parameters from the model, a sample, a random generator, and the shape of the rows
    least_rows : from the number of features, the rows that are enough to estimate every component
    generator : what starts draw from
    engine : from the words for a progress bar, the model and what is fitted, how a pass is run
    rule : the step size
    least_formula : how `least_rows` follows from K and d, in words
    """

    model: Callable[[Fitted], Model]
    start: Callable[[Model, Chunk, np.random.RandomState, Shape], Params]
    least_rows: Callable[[int], int]
    generator: Callable[[], np.random.RandomState]
    engine: Callable[[str, Model, Fitted], Engine]
    rule: StepSize
    least_formula: str = "2·K·(d + 1)"


Advance = Callable[[Learning, Fitted, Source, Executor | None], Fitted]
"""What makes of a fitted model and a mini-batch the next fitted model: `step`, or another way to learn."""


def step(learning: Learning, fitted: Fitted, source: Source, executor: Executor | None = None) -> Fitted:
    """What is fitted after one mini-batch: the E-step of all rows of the source, then an M-step.

    Parameters
    ----------
    fitted : without a state, rows are kept in `Fitted.pending` until a start can be made of them
    executor : runs the E-step, if it is given; else an engine is made for this step

    Raises
    ------
    DataError : no rows
    """
    if source.n_rows == 0:
        raise DataError(f"{source.schema.origin} has 0 sample(s) (rows) while a minimum of 1 is required")
    if executor is not None and fitted.state is not None:
        return _moved(learning, fitted, source, executor)
    # Starts too: pools of OpenMP threads hang in a forked child, and k-means would sum in their order.
    with one_blas_thread(brief=fitted.state is not None):
        return _begin(learning, fitted, source) if fitted.state is None else _moved(learning, fitted, source, None)


def _moved(learning: Learning, fitted: Fitted, source: Source, executor: Executor | None) -> Fitted:
    assert fitted.state is not None
    model, state = learning.model(fitted), fitted.state
    rule = StepwiseEM(learning.rule, least=learning.least_rows(features_of(source, fitted)))
    if executor is None:
        stats = _e_step(model, state, source, learning.engine("partial fit", model, fitted))
    else:
        params = model.for_pass_of(state.params, source.n_rows)
        task, refs = EStep(model, params, _names(source, fitted)), source.chunks()
        stats = executor.reduce(task.ready(executor, refs), refs, _nobody_watches)
    return learned(fitted, rule.update(model, state, stats))


def learned(fitted: Fitted, state: State) -> Fitted:
    """The model after an online step that led to `state`."""
    kept = {} if fitted.report is None else fitted.report.events
    events = {name: kept[name] for name in (TOMBSTONES,) if name in kept}
    features = 0 if fitted.shape is None else fitted.shape.features
    report = FitReport("learned online", state.rows, features, 1, events=events)
    return replace(fitted, state=state, report=report, seen="", pending=None)


def _begin(learning: Learning, fitted: Fitted, source: Source) -> Fitted:
    """Keep rows until a start can be made; then take the first step with all of them."""
    assert fitted.shape is not None
    features, model = source.schema.n_features, learning.model(fitted)
    engine, rng = learning.engine("partial fit", model, fitted), learning.generator()
    least, kept = learning.least_rows(features_of(source, fitted)), fitted.pending
    have = 0 if kept is None else kept.rows
    room = max(least, engine.budget.sample_bytes // (8 * features))
    sample = _taken(model, source, min(source.n_rows, room), rng, engine)
    if sample.weight is not None and not sample.weight.any():
        return fitted
    drawn = _joined(kept, sample)
    if have + source.n_rows < least:
        return replace(fitted, pending=drawn)
    try:
        state = State(learning.start(model, drawn, rng, fitted.shape))
    except ImpossibleValueError as error:
        raise _located(error, sample, source, _names(source, fitted)) from error
    except DegenerateDataError:
        if have + source.n_rows >= PATIENCE * least:
            raise
        every = sample if sample.rows == source.n_rows else _taken(model, source, source.n_rows, rng, engine)
        return replace(fitted, pending=_joined(kept, every))
    stats = _e_step(model, state, source, engine)
    if kept is not None:
        stats = _e_step(model, state, _reopened(kept), engine) + stats
    return learned(fitted, StepwiseEM(learning.rule, least=least).begin(model, state, stats))


def _located(
    error: ImpossibleValueError, sample: Chunk, source: Source, names: tuple[str, ...] | None
) -> ImpossibleValueError:
    """The error about a value of rows that a start was to be made of: of the sample of a batch, or of earlier ones."""
    if sample.rows == source.n_rows:
        found = located_in_source(error, sample, None, source.chunks(), names)
        if found is not error:
            return found
    name = f" {names[error.column]!r}" if names is not None and error.column < len(names) else ""
    known = error.column < sample.x.shape[1] and (sample.x[:, error.column] == error.value).any()
    place = f"column {error.column}{name} of {'the batch' if known else 'rows that earlier batches brought'}"
    return ImpossibleValueError(error.value, error.column, error.needed, place)


def _taken(model: Model, source: Source, size: int, rng: np.random.RandomState, engine: Engine) -> Chunk:
    """A sample of rows of a source; all rows in order if the source has no more."""
    return take_sample(source, size, rng, engine, missing=model.missing)


def _reopened(kept: Chunk) -> Source:
    """Rows that were kept, as a source."""
    if kept.sequences is None:
        return _rows_again(kept)
    p = 0 if kept.covariates is None else kept.covariates.shape[1]
    x = kept.x if kept.covariates is None else np.hstack([kept.x, kept.covariates])
    driven = range(kept.x.shape[1], kept.x.shape[1] + p)
    return open_sequences(x, offsets=kept.sequences.offsets, weight=kept.weight, covariates=driven)


def _rows_again(kept: Chunk) -> Source:
    """Independent rows that were kept, with what their weights depend on apart."""
    if kept.covariates is None:
        return open_source(kept.x, weight=kept.weight)
    rows = open_source(np.hstack([kept.x, kept.covariates]), weight=kept.weight)
    return Apart(rows, range(kept.x.shape[1], rows.schema.n_features), integrates=True)


def _e_step(model: Model, state: State, source: Source, engine: Engine) -> Stats:
    params = model.for_pass_of(state.params, source.n_rows)
    task, refs = EStep(model, params, source.schema.names), source.chunks()
    held = model.statistics_bytes(source.schema.n_features)
    if len(refs) > 1 or engine.verbose or engine.is_remote:
        return reduce_source(source, task, engine, held)
    engine.project(source, refs, held)  # which refuses what does not fit
    try:
        return task(refs[0].load(), refs[0])  # no other thread could help, and no sequence is cut
    finally:
        drop_kernel()


def features_of(source: Source, fitted: Fitted) -> int:
    """Features of rows, which may hold the noise of each behind them."""
    shape = fitted.shape
    return source.schema.n_features if shape is None or shape.noise is None else shape.features


def _names(source: Source, fitted: Fitted) -> tuple[str, ...] | None:
    """Names of the features, for messages; mini-batches of a stream have none of their own."""
    known = None if fitted.shape is None else fitted.shape.names
    fitting = known if known is not None and len(known) == source.schema.n_features else None
    return source.schema.names or fitting


def _nobody_watches(done: ChunkDone) -> None:
    """Do nothing: no progress is shown of a mini-batch."""


def step_rule(half_life: float | None, step_size: StepSize | None) -> StepSize:
    """The step size of a call.

    Raises
    ------
    ParameterError : two of them
    """
    if half_life is not None and step_size is not None:
        raise ParameterError("half_life and step both say how large a step is; pass one of them")
    if half_life is not None:
        return HalfLife(half_life)
    return PowerLaw() if step_size is None else step_size


def _joined(earlier: Chunk | None, later: Chunk) -> Chunk:
    """Rows of both; a missing weight is 1."""
    if earlier is None:
        weight = None if later.weight is None else np.array(later.weight)
        return Chunk(np.array(later.x), weight, later.sequences, covariates_of([later]))
    weights: list[Any] = [np.ones(part.rows) if part.weight is None else part.weight for part in (earlier, later)]
    weight = None if earlier.weight is None and later.weight is None else np.concatenate(weights)
    sequences = None
    if earlier.sequences is not None and later.sequences is not None:
        offsets = np.concatenate([earlier.sequences.offsets, earlier.rows + later.sequences.offsets[1:]])
        sequences = Sequences(offsets, padded=earlier.sequences.padded or later.sequences.padded)
    return Chunk(np.concatenate([earlier.x, later.x]), weight, sequences, covariates_of([earlier, later]))
