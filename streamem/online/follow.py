"""Learning from a stream: mini-batches, positions, dead letters and files move together, whatever fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamem.algorithms import DriftAlarm, StepwiseEM
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, NumericalError, PoisonError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Executor, Source, Stream
from streamem.core.redaction import redacted
from streamem.core.state import State
from streamem.machine.importing import import_whole
from streamem.online.behind import Behind
from streamem.online.learner import Advance, Learning, step
from streamem.online.prefetch import NBYTES, Handover, Inline, Prefetch, reading
from streamem.online.updates import Update, describe_update
from streamem.running.fitted import Fitted, Shape, StreamPlace
from streamem.running.report import TOMBSTONES, FitReport

if TYPE_CHECKING:
    from streamem.online.live_files import LiveFiles
    from streamem.online.mini_batches import Cutter, MiniBatch
    from streamem.online.records import Decoder

logger = logging.getLogger("streamem")

ABSURD = 1e100
"""Values of which no model can be started: their squares, or products of them, overflow."""


def _as_it_is(shape: Shape) -> Shape:
    """The shape of rows of which all columns are features."""
    return shape


@dataclass
class Learner:
    """A model that learns mini-batch by mini-batch; all that changes is `fitted`, so rolling back is an assignment.

    Attributes
    ----------
    fitted : the latest value
    learning : how it learns
    open : a mini-batch as a source, checked against the shape of the fit
    alarm : watches how well mini-batches are predicted, or None
    resets : whether an alarm lets all rows to come count alike again
    advance : what learns a mini-batch: `step`, or what goes on with an endless sequence
    sequences : of a model of sequences, by which name in the data its sequences are found; None of independent rows
    behind : columns of records that are no features, or None
    apart : from the shape of rows that of their features, where some columns drive transitions or weights
    """

    fitted: Fitted
    learning: Learning
    open: Callable[[Any, Shape], Source]
    alarm: DriftAlarm | None = None
    resets: bool = False
    advance: Advance = step
    sequences: Mapping[str, str] | None = None
    behind: Behind | None = None
    apart: Callable[[Shape], Shape] = _as_it_is

    def finite(self, x: Any) -> Any:
        """The columns of rows that are finite, or missing: all but noise, which may be infinite."""
        behind = self.behind
        return x if behind is None or behind.possible is None else x[:, : -behind.count]

    @property
    def has_model(self) -> bool:
        """Whether there are parameters."""
        return self.fitted.state is not None

    def places(self) -> dict[str, Mapping[str, Any]]:
        """Positions in each stream, by its name without passwords; names saved by earlier versions may have some."""
        known = {} if self.fitted.stream is None else self.fitted.stream.positions
        return {redacted(name): positions for name, positions in known.items()}

    def positions(self, stream: Stream) -> dict[str, Any]:
        """[where, records] of each partition at the start; of a pipe, what the last message still held is gone."""
        known = self.places().get(redacted(stream.name), {})
        return {
            partition: [where, records if stream.replayable else 0] for partition, (where, records) in known.items()
        }

    def moved(self, stream: Stream, positions: Mapping[str, Any]) -> None:
        """Take note of the positions in a stream."""
        place = self.fitted.stream or StreamPlace()
        places = {**self.places(), redacted(stream.name): dict(positions)}
        self.fitted = replace(self.fitted, stream=replace(place, positions=places))


@dataclass(frozen=True)
class Reader:
    """One stream as one call reads it.

    Attributes
    ----------
    stream, cutter, decoder : the stream, and what makes mini-batches of its messages
    files : what is on disk
    stopping : set by `stop`
    """

    stream: Stream
    cutter: Cutter
    decoder: Decoder
    files: LiveFiles
    stopping: threading.Event


def follow(learner: Learner, reader: Reader) -> Generator[tuple[MiniBatch, Update | None]]:
    """Learn mini-batch after mini-batch until the stream ends or `stop` is called; each as it is learned.

    An update is None while rows are kept for a start, and where a mini-batch teaches nothing. After each,
    ``learner.fitted`` is the model, positions included. Closing the iterator saves what was learned.

    Raises
    ------
    StreamError : the stream fails for good
    PoisonError : more unusable records than allowed
    """
    stream, cutter, files = reader.stream, reader.cutter, reader.files
    where = {partition: place for partition, (place, _) in learner.positions(stream).items()}
    with ExitStack() as closing, reading(stream, where) as ahead:
        learn = _Step(learner, reader, closing)
        try:
            for batch in _batches(reader, ahead):
                before = learner.fitted
                try:
                    usable, update = _learned(learner, reader, learn, batch)
                    files.bury(usable.poison)
                except BaseException:  # rows, positions and dead letters of a mini-batch move together
                    learner.fitted = before
                    cutter.put_back()
                    raise
                files.note(update, stream)
                yield usable, update
        except PoisonError:
            files.bury(cutter.waiting())
            raise
        finally:  # while the stream is open: it passes on what is committed
            files.save(stream)


class _Step:
    """Learns a mini-batch of usable rows, with threads that are kept for the whole stream."""

    def __init__(self, learner: Learner, reader: Reader, closing: ExitStack) -> None:
        self._learner, self._reader, self._closing = learner, reader, closing
        self._executor: Executor | None = None

    def __call__(self, batch: MiniBatch) -> Update | None:
        """What the batch did to the model; None while rows are kept for a start."""
        learner = self._learner
        if batch.chunk.rows == 0:
            return None
        if not learner.has_model:
            return self._begun(batch)
        before, shape = learner.fitted, learner.fitted.shape
        assert before.state is not None
        assert shape is not None
        source = learner.open(batch.chunk, shape)
        if self._executor is None:
            self._executor = self._threads(source)
        with np.errstate(over="ignore", invalid="ignore"):  # of absurd records, which an error names
            after = learner.advance(learner.learning, before, source, self._executor)
        assert after.state is not None
        if after.state.memory is before.state.memory:  # weights of 0 teach nothing
            learner.fitted = after
            return None
        weights = batch.chunk.weight
        state, alarmed = self._watched(after.state, float(batch.chunk.rows if weights is None else weights.sum()))
        learner.fitted = after if state is after.state else replace(after, state=state)
        return describe_update(learner.learning.model(learner.fitted), before.state, state, alarmed)

    def _begun(self, batch: MiniBatch) -> Update | None:
        learner, decoder = self._learner, self._reader.decoder
        names, shape = decoder.names, learner.fitted.shape
        if shape is None:
            decoder.vocabulary.require_columns(names)
            x = batch.chunk.x
            dtype = np.dtype(np.float32 if x.dtype == np.float32 else np.float64)
            shape = Shape(x.shape[1], None if names is None else tuple(names), decoder.vocabulary.known, dtype=dtype)
            if learner.behind is not None:
                shape = learner.behind.shaped(shape)
            if learner.sequences is not None:  # whose attributes are float64 whatever their data are
                shape = replace(shape, dtype=np.dtype(np.float64), sequences=learner.sequences)
            shape = learner.apart(shape)
        fitted = replace(learner.fitted, shape=shape)
        learner.fitted = learner.advance(learner.learning, fitted, learner.open(batch.chunk, shape), None)
        state = learner.fitted.state
        return None if state is None else describe_update(learner.learning.model(learner.fitted), None, state)

    def _threads(self, source: Source) -> Executor:
        """Threads of this process, kept for the whole stream."""
        learning, fitted = self._learner.learning, self._learner.fitted
        model = learning.model(fitted)
        engine, refs = replace(learning.engine("stream", model, fitted), choice="threads"), source.chunks()
        held = model.statistics_bytes(source.schema.n_features)
        waiting = NBYTES + 2 * sum(ref.nbytes for ref in refs)
        projection = engine.project(source, refs, held, sample=waiting)
        return self._closing.enter_context(engine.executor(source, projection))

    def _watched(self, state: State, weight: float) -> tuple[State, bool]:
        """The state with what the alarm remembers of a mini-batch of that weight, and whether it was raised."""
        alarm, memory = self._learner.alarm, state.memory
        if alarm is None or memory is None:
            return state, False
        known = memory.watch if "watch" in memory else alarm.start()
        watch, alarmed = alarm.update(known, state.trace[-1], weight)
        state = replace(state, memory=memory.replace(watch=watch))
        if alarmed and self._learner.resets:
            learning, shape = self._learner.learning, self._learner.fitted.shape
            assert shape is not None
            state = StepwiseEM(learning.rule, least=learning.least_rows(shape.features)).forget(state)
        return state, alarmed


def _learned(learner: Learner, reader: Reader, learn: _Step, batch: MiniBatch) -> tuple[MiniBatch, Update | None]:
    """What was learned of a mini-batch: without rows that are finite, but whose densities overflow."""
    x = learner.finite(batch.chunk.x)
    try:
        if learner.has_model or not len(x) or float(np.abs(x).max()) < ABSURD:
            return batch, _take(learner, reader, learn, batch)
    except (NumericalError, ImpossibleValueError):
        if not learner.has_model:
            raise
    usable = _sifted(learner, reader.cutter, batch)
    return usable, _take(learner, reader, learn, usable)


def _sifted(learner: Learner, cutter: Cutter, batch: MiniBatch) -> MiniBatch:
    bad_rows, x = import_whole("streamem.online.bad_rows"), learner.finite(batch.chunk.x)
    if learner.fitted.state is not None:
        model, params = learner.learning.model(learner.fitted), learner.fitted.state.params
        rows = bad_rows.overflowing(lambda chunk: _e_step(learner, model, params, chunk), batch.chunk)
    else:
        rows = np.flatnonzero((np.abs(x, dtype=np.float64) >= ABSURD).any(axis=1)).tolist()
    if cutter.sifted(len(rows)):
        raise PoisonError(
            f"{len(rows)} of {len(x)} records hold values that the model cannot take, such as those whose squares "
            f"overflow; the first is {x[rows[0]].tolist()}. Rescale them, or pass dead_letter='bad.arrows' to put "
            "up to poison_limit of them aside"
        )
    usable: MiniBatch = bad_rows.without(batch, rows, "its density cannot be computed: absurd values")
    return usable


def _e_step(learner: Learner, model: Any, params: Any, chunk: Chunk) -> None:
    """The E-step of rows as they came."""
    shape = learner.fitted.shape
    assert shape is not None
    if learner.behind is None and not shape.covariates:
        model.e_step(params, chunk)
        return
    for ref in learner.open(chunk, shape).chunks():
        model.e_step(params, ref.load())


def _take(learner: Learner, reader: Reader, learn: _Step, batch: MiniBatch) -> Update | None:
    """Learn a mini-batch and move the positions behind it: both, or neither."""
    before = learner.fitted
    try:
        update = learn(batch)
        learner.moved(reader.stream, batch.positions)
        if batch.tombstones:
            learner.fitted = _with_tombstones(learner.fitted, batch.tombstones)
    except BaseException:
        learner.fitted = before
        raise
    return update


def _with_tombstones(fitted: Fitted, count: int) -> Fitted:
    """The model whose report counts so many more messages without a value."""
    report = fitted.report or FitReport("learned online")
    events = {**report.events, TOMBSTONES: report.events.get(TOMBSTONES, 0) + count}
    return replace(fitted, report=replace(report, events=events))


def _batches(reader: Reader, ahead: Prefetch | Inline) -> Iterator[MiniBatch]:
    stream, cutter, files, stopping = reader.stream, reader.cutter, reader.files, reader.stopping
    try:
        yield from cutter.again()
        for group in ahead.groups():
            for message in group:
                yield from _of_message(reader, message)
                if stopping.is_set() and stream.replayable:
                    return
            if not group:
                files.save_if_due(stream)
            if stopping.is_set():
                break
    except StreamError:
        if not stream.replayable and (rest := cutter.rest()) is not None:
            yield rest  # what a pipe has given cannot be had again
        raise
    if stopping.is_set() and stream.replayable:
        return
    for message in ahead.remaining():
        yield from cutter.add(message)
    if (rest := cutter.rest()) is not None:
        yield rest


def _of_message(reader: Reader, message: Message | Handover) -> Iterator[MiniBatch]:
    if not isinstance(message, Handover):
        yield from reader.cutter.add(message)
        return
    if (rest := reader.cutter.withdraw(message.partitions)) is not None:
        yield rest
    reader.files.save(reader.stream)
    message.done.set()
