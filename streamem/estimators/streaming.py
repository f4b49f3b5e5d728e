"""`fit_stream`: learn from records as they arrive, and survive whatever happens to the process."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path as PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streamem.algorithms import DriftAlarm, StepSize, StepwiseEM
from streamem.core.errors import (
    CheckpointMismatchError,
    ImpossibleValueError,
    NumericalError,
    ParameterError,
    PoisonError,
    SchemaError,
    StreamemError,
    StreamError,
)
from streamem.core.message import Message
from streamem.core.ports import ChunkDone, Executor, Stream
from streamem.core.redaction import redacted
from streamem.core.state import State
from streamem.estimators.learning import LearningMixture
from streamem.estimators.online import step_rule
from streamem.machine.importing import import_whole
from streamem.online.nothing_learned import require_learned
from streamem.online.prefetch import NBYTES, Handover, Inline, Prefetch, reading
from streamem.online.updates import Update
from streamem.running.engines import Engine
from streamem.running.fit import EStep
from streamem.running.memory import parse_bytes
from streamem.running.report import TOMBSTONES
from streamem.sources import ReadOptions, open_source
from streamem.streams import open_stream

if TYPE_CHECKING:
    from streamem.online.live_files import LiveFiles
    from streamem.online.mini_batches import Cutter, MiniBatch
    from streamem.online.records import Decoder

logger = logging.getLogger("streamem")

NEEDS_ARROW = ("streamem.online.live_files", "streamem.online.mini_batches", "streamem.online.records")
ABSURD = 1e100
"""Values of which no model can be started: their squares, or products of them, overflow."""

Path = str | os.PathLike[str]
OnDrift = str | Callable[[Update], object]
Until = int | Callable[[Update], bool]


@dataclass(frozen=True)
class _Plan:
    """How one call of fit_stream learns."""

    step: StepSize
    alarm: DriftAlarm | None
    on_drift: OnDrift
    until: Until | None
    options: ReadOptions


class StreamingMixture(LearningMixture):
    """A mixture that lives on a stream."""

    stream_positions_: dict[str, dict[str, Any]]

    def fit_stream(
        self,
        stream: Any,
        *,
        half_life: float | None = None,
        step: StepSize | None = None,
        batch_rows: int = 1000,
        columns: Sequence[str] | None = None,
        sample_weight: str | None = None,
        checkpoint: Path | None = None,
        save_every_s: float = 10.0,
        dead_letter: Path | None = None,
        poison_limit: float = 0.01,
        dead_letter_limit: int | str | None = "1GiB",
        history: Path | None = None,
        drift: DriftAlarm | None = None,
        on_drift: OnDrift = "log",
        until: Until | None = None,
    ) -> Self:
        """Learn from a stream, mini-batch by mini-batch, until it ends or `stop` is called.

        The state of the model and the positions in the stream are one file, written atomically at the boundary of a
        mini-batch: started again with the same arguments after any crash, nothing is lost and nothing is learned twice,
        and the bits are those of a run without the crash (for streams that can be read again; and where several
        partitions run dry by turns, for the same order of arrival).

        Parameters
        ----------
        stream : what `streamem.streams.open_stream` takes: "-", a file or pipe (Arrow IPC or JSON lines), a growing
            folder of Parquet files, "tcp://…", "kafka://…/topic", "redis://…/key", an iterable of batches; or a
            `Stream` such as ``KafkaStream(...)``
        half_life, step : as in `partial_fit`
        batch_rows : rows of a mini-batch; only a stream's end makes a smaller one
        columns : names of the features, others are ignored; by default those fitted, or those of the first record
            A model that was fitted without names needs them, in its order, for records that have names.
        sample_weight : name of the column or field of weights
        checkpoint : ``.npz`` file with the model and its positions, which `load` reads too
            If it exists, the call goes on from there, whatever this object has learned before. One process writes it
            at a time; the second fails.
        save_every_s : seconds between saves; 0 saves after every mini-batch
        dead_letter : Arrow IPC stream file to which unusable records are appended with position, reason and bytes
            Without it the first such record is an error. Only what is wrong with a record itself is put there; a
            library or a store that fails is an error, and no record is lost.
        poison_limit : share of the latest records that may be unusable
            A message that is refused as a whole, such as a row group without the columns, counts by the records that
            it holds; one of which nothing can be read counts as one.
        dead_letter_limit : most that the file of dead letters may hold, such as "1GiB" or a number of bytes, or None
            Reaching it is an error before anything is lost: with another file, or a higher limit, the call goes on.
        history : Arrow IPC stream file to which one row an update is appended; see `Update`
        drift : DriftAlarm or None
            Watches the predictive log-likelihood; see `on_drift`. None watches only if `on_drift` is not "log".
        on_drift : "log", "reset" (all rows to come count alike again, so that the model is learned anew), or a
            function of the `Update`
        until : rows to learn in this call, or a function of the `Update` that says when to end
            Looked at after every mini-batch, once there is a model. What a plain iterator had given beyond that is kept
            for the next call with the same iterator; what was read ahead of a pipe is gone.

        Returns
        -------
        self

        Raises
        ------
        StreamError : the stream fails for good
        PoisonError : more unusable records than allowed
        DataError : the stream has ended, or `stop` was called, and there is still no model: too few usable rows, or all
            without weight. A model that was fitted before may learn nothing.
        OutputError : a file cannot be written, or dead letters would exceed their limit
        WriterConflictError : another process saves to the same checkpoint
        CheckpointMismatchError : the checkpoint is of a model with other hyperparameters
        """
        self._check_hyperparameters()
        self._check_stream_arguments(batch_rows, poison_limit, on_drift, drift, save_every_s, until)
        rule, most_letters = step_rule(half_life, step), parse_bytes(dead_letter_limit)
        if drift is None and on_drift != "log":
            drift = DriftAlarm()
        # Arrow is imported by those only who read a stream.
        live_files, mini_batches, records = map(import_whole, NEEDS_ARROW)
        with ExitStack() as closing:
            live = closing.enter_context(
                live_files.LiveFiles(self, checkpoint, dead_letter, history, save_every_s, most_letters)
            )
            opened = open_stream(stream, self._wanted(columns, sample_weight))
            limit = poison_limit if dead_letter is not None else 0.0
            plan = _Plan(rule, drift, on_drift, until, self._reading().options())
            decoder = records.Decoder(
                self._feature_names(columns), sample_weight, getattr(self, "n_features_in_", None)
            )
            if checkpoint is None and getattr(opened, "anonymous", False):
                self.stream_positions_ = {**self._positions(), redacted(opened.name): {}}  # another list is other data
            cutter = mini_batches.Cutter(decoder, self._start_positions(opened), int(batch_rows), limit)
            unread = self.__dict__.pop("_unread", None)
            if unread is not None and unread[0] is stream:
                cutter.resume(unread[1])
            try:
                stopped = self._follow(opened, cutter, decoder, plan, live)
            except Exception as error:
                if not isinstance(error, StreamemError):
                    error.add_note(_what_is_kept(opened))
                raise
            finally:
                if not opened.replayable and any(cutter.unread):
                    self.__dict__["_unread"] = (stream, cutter.unread)
            if cutter.came.refused:
                told = cutter.came.refused, cutter.came.records, dead_letter
                logger.info("%d of %d records cannot be used; %s holds them", *told)
            require_learned(self, opened.name, cutter.came, dead_letter, stopped)
        return self

    def stop(self) -> None:
        """End a running `fit_stream`, from any thread or signal handler.

        After the present mini-batch; of a pipe or an iterator, which cannot be read again, after what was read of it.
        """
        running: threading.Event | None = self.__dict__.get("_stopping")
        if running is not None:
            running.set()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _follow(self, stream: Stream, cutter: Cutter, decoder: Decoder, plan: _Plan, live: LiveFiles) -> bool:
        """Learn; whether `stop` was called."""
        stopping = self.__dict__["_stopping"] = threading.Event()
        try:
            with self._learner(plan, decoder) as learn, reading(stream, self._wheres(stream)) as ahead:
                try:
                    batches = self._batches(stream, cutter, ahead, live, stopping)
                    self._learn_all(batches, cutter, stream, plan, live, learn)
                except PoisonError:
                    live.bury(cutter.waiting())
                    raise
                finally:  # while the stream is open: it passes on what is committed
                    live.save(stream)
        finally:
            self.__dict__.pop("_stopping", None)
        return stopping.is_set()

    def _learn_all(
        self,
        batches: Iterator[MiniBatch],
        cutter: Cutter,
        stream: Stream,
        plan: _Plan,
        live: LiveFiles,
        learn: Callable[[MiniBatch], Update | None],
    ) -> None:
        learned = 0
        for batch in batches:
            before = dict(self.__dict__)
            try:
                usable, update = self._learned(batch, cutter, stream, plan, learn)
                live.bury(usable.poison)
            except BaseException:  # rows, positions and dead letters of a mini-batch move together
                self.__dict__.clear()
                self.__dict__.update(before)
                cutter.put_back()
                raise
            live.note(update, stream)
            if update is not None:
                self._react(update, plan)
            learned += usable.chunk.rows
            if update is not None and _enough(plan.until, update, learned):
                break

    def _learned(
        self,
        batch: MiniBatch,
        cutter: Cutter,
        stream: Stream,
        plan: _Plan,
        learn: Callable[[MiniBatch], Update | None],
    ) -> tuple[MiniBatch, Update | None]:
        """What was learned of a mini-batch: without rows that are finite, but whose densities overflow."""
        try:
            if hasattr(self, "weights_") or not len(batch.chunk.x) or float(np.abs(batch.chunk.x).max()) < ABSURD:
                return batch, self._take(batch, stream, learn)
        except (NumericalError, ImpossibleValueError):
            if not hasattr(self, "weights_"):
                raise
        usable = self._sifted(batch, cutter)
        return usable, self._take(usable, stream, learn)

    def _sifted(self, batch: MiniBatch, cutter: Cutter) -> MiniBatch:
        sifting = import_whole("streamem.online.bad_rows")
        x = batch.chunk.x
        if hasattr(self, "weights_"):
            model, params = self._make_model(), self._present().params
            rows = sifting.overflowing(lambda chunk: model.e_step(params, chunk), batch.chunk)
        else:
            rows = np.flatnonzero((np.abs(x, dtype=np.float64) >= ABSURD).any(axis=1)).tolist()
        if cutter.sifted(len(rows)):
            raise PoisonError(
                f"{len(rows)} of {len(x)} records hold values that the model cannot take, such as those whose squares "
                f"overflow; the first is {x[rows[0]].tolist()}. Rescale them, or pass dead_letter='bad.arrows' to put "
                "up to poison_limit of them aside"
            )
        sifted: MiniBatch = sifting.without(batch, rows, "its density cannot be computed: absurd values")
        return sifted

    def _take(self, batch: MiniBatch, stream: Stream, learn: Callable[[MiniBatch], Update | None]) -> Update | None:
        """Learn a mini-batch and move the positions behind it: both, or neither."""
        before = dict(self.__dict__)
        try:
            update = learn(batch) if batch.chunk.rows else None
            self.stream_positions_ = {**self._positions(), redacted(stream.name): dict(batch.positions)}
            if batch.tombstones:
                self.__dict__["_tombstones"] = self.__dict__.get("_tombstones", 0) + batch.tombstones
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return update

    def _react(self, update: Update, plan: _Plan) -> None:
        """Tell those who want to know."""
        if update.drift or callable(plan.until) or self.__dict__.get("_callbacks"):
            self._publish_stream()
        if update.drift:
            _sound(plan.on_drift, update)
        for kind in ("born", "died"):
            if components := getattr(update, kind):
                logger.info("components %s %s at row %d", list(components), kind, update.rows)
        self._tell(update)

    def _batches(
        self,
        stream: Stream,
        cutter: Cutter,
        ahead: Prefetch | Inline,
        live: LiveFiles,
        stopping: threading.Event,
    ) -> Iterator[MiniBatch]:
        try:
            yield from cutter.again()
            for group in ahead.groups():
                for message in group:
                    yield from self._messages_batches(message, stream, cutter, live)
                    if stopping.is_set() and stream.replayable:
                        return
                if not group:
                    live.save_if_due(stream)
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

    @staticmethod
    def _messages_batches(
        message: Message | Handover, stream: Stream, cutter: Cutter, live: LiveFiles
    ) -> Iterator[MiniBatch]:
        if not isinstance(message, Handover):
            yield from cutter.add(message)
            return
        if (rest := cutter.withdraw(message.partitions)) is not None:
            yield rest
        live.save(stream)
        message.done.set()

    @contextmanager
    def _learner(self, plan: _Plan, decoder: Decoder) -> Iterator[Callable[[MiniBatch], Update | None]]:
        """What learns a mini-batch; None while rows are kept for a start."""
        with ExitStack() as closing:
            executors: list[Executor] = []

            def learn(batch: MiniBatch) -> Update | None:
                if not hasattr(self, "weights_"):
                    return self._begin(batch, plan, decoder)
                if not executors:
                    executors.append(closing.enter_context(self._stream_executor(batch, plan)))
                return self._advance(batch, plan, executors[0])

            try:
                yield learn
            finally:
                self._publish_stream()

    def _begin(self, batch: MiniBatch, plan: _Plan, decoder: Decoder) -> Update | None:
        """The first rows, through partial_fit, until there is a model."""
        self._learn_batch(batch.chunk.x, batch.chunk.weight, plan.step)
        if not hasattr(self, "weights_"):
            return None
        if decoder.names is not None:
            self.feature_names_in_ = np.asarray(decoder.names, dtype=object)
        return self._note(None, self._state)

    def _advance(self, batch: MiniBatch, plan: _Plan, executor: Executor) -> Update | None:
        model, before = self._make_model(), self._present()
        least = self._least_rows(self.n_features_in_)
        rule = StepwiseEM(plan.step, least=least)
        source = open_source(batch.chunk.x, weight=batch.chunk.weight, options=plan.options)
        names = tuple(getattr(self, "feature_names_in_", ())) or None
        with np.errstate(over="ignore", invalid="ignore"):  # of absurd records, which an error names
            stats = executor.reduce(EStep(model, before.params, names), source.chunks(), _nothing)
        after = rule.update(model, before, stats)
        if float(stats.weight) == 0:
            self.__dict__["_ahead"] = after
            return None
        alarmed = False
        if plan.alarm is not None and after.memory is not None:
            known = after.memory.watch if "watch" in after.memory else plan.alarm.start()
            watch, alarmed = plan.alarm.update(known, after.trace[-1], float(stats.weight))
            after = _with_memory(after, watch=watch)
            if alarmed and plan.on_drift == "reset":
                after = rule.forget(after)
        self.__dict__["_ahead"] = after
        return self._note(before, after, alarmed)

    # --- state -------------------------------------------------------------------------------------------------------

    def _present(self) -> State:
        """The latest state, which may be ahead of the published attributes."""
        ahead: State | None = self.__dict__.get("_ahead")
        if ahead is not None:
            return ahead
        self._require_fitting_shapes()
        known: State | None = getattr(self, "_state", None)
        params = self._params()
        return known if known is not None and known.params == params else State(params)

    def _publish_stream(self) -> None:
        """Bring the attributes up to date: once a save, not once a mini-batch, as long as nobody looks."""
        ahead: State | None = self.__dict__.pop("_ahead", None)
        if ahead is not None:
            self._learn(ahead, self.weights_.dtype)
        if hasattr(self, "report_") and (passed := self.__dict__.pop("_tombstones", 0)):
            events = self.report_.events
            self.report_ = replace(self.report_, events={**events, TOMBSTONES: events.get(TOMBSTONES, 0) + passed})

    def _positions(self) -> dict[str, dict[str, Any]]:
        """Of each stream, by its name without passwords; those saved by earlier versions may have some."""
        return {redacted(name): known for name, known in getattr(self, "stream_positions_", {}).items()}

    def _start_positions(self, stream: Stream) -> dict[str, Any]:
        """[where, records] of each partition; of a pipe, what the last message still held is gone."""
        known: Mapping[str, Any] = self._positions().get(redacted(stream.name), {})
        return {
            partition: [where, records if stream.replayable else 0] for partition, (where, records) in known.items()
        }

    def _wheres(self, stream: Stream) -> dict[str, Any]:
        return {partition: where for partition, (where, _) in self._start_positions(stream).items()}

    def _restore_live(self, path: PathLike) -> dict[str, Any]:
        """Become what a checkpoint holds."""
        objects = {name: getattr(self, name) for name in self._not_saved()}
        loaded = self._load_newest(path, objects)
        _require_same_model(self._identity_key(), loaded._identity_key(), path)
        parameters = self.get_params(deep=False)
        mine: State | None = getattr(self, "_state", None)
        if mine is not None and mine.params != loaded._state.params:
            logger.warning("%s holds another state than this object, which is given up", path)
        self.__dict__.update({name: value for name, value in vars(loaded).items() if name not in parameters})
        self.__dict__.pop("_pending", None)
        self.__dict__.pop("_tombstones", None)
        logger.info("going on from %s at row %d", path, self._state.rows)
        return dict(loaded.__dict__.get("_live_lengths", {}))

    def _save_live(self, path: PathLike, lengths: dict[str, Any], keep: int) -> None:
        self.__dict__["_live_lengths"] = lengths
        self._save(path, keep)

    def _identity_key(self) -> dict[str, Any]:
        """Hyperparameters without which a state means nothing."""
        key = self._run_key()
        return {name: key[name] for name in ("class", "n_components", "covariance_type", "family") if name in key}

    # --- settings ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _stream_executor(self, batch: MiniBatch, plan: _Plan) -> Iterator[Executor]:
        """Threads of this process, kept for the whole stream."""
        source = open_source(batch.chunk.x, weight=batch.chunk.weight, options=plan.options)
        engine: Engine = self._engine("stream", "threads")
        held = self._make_model().statistics_bytes(self.n_features_in_)
        waiting = NBYTES + 2 * batch.chunk.x.nbytes
        projection = engine.project(source, source.chunks(), held, sample=waiting)
        with engine.executor(source, projection) as executor:
            yield executor

    def _feature_names(self, columns: Sequence[str] | None) -> list[str] | None:
        """Those fitted, in their order, whatever the order of `columns`; before the fit, `columns`."""
        fitted = [str(name) for name in getattr(self, "feature_names_in_", ())]
        if columns is None:
            return fitted or None
        chosen = [columns] if isinstance(columns, str) else list(columns)
        if fitted and {re.sub(r"\[\d+\]$", "", name) for name in fitted} != set(chosen) != set(fitted):
            raise SchemaError(f"the features {chosen} were chosen, but {fitted} were fitted")
        return fitted or chosen

    def _wanted(self, columns: Sequence[str] | None, weight: str | None) -> list[str] | None:
        names = self._feature_names(columns)
        return None if names is None else names + ([] if weight is None else [weight])

    @staticmethod
    def _check_stream_arguments(
        batch_rows: int,
        poison_limit: float,
        on_drift: OnDrift,
        drift: DriftAlarm | None,
        save_every_s: float,
        until: Until | None,
    ) -> None:
        if not _is_count(batch_rows):
            raise ParameterError(f"batch_rows is {batch_rows!r}; it must be an integer >= 1")
        if not 0 <= poison_limit <= 1:
            raise ParameterError(f"poison_limit is {poison_limit!r}; it must be a share from 0 to 1")
        if not save_every_s >= 0:
            raise ParameterError(f"save_every_s is {save_every_s!r}; it must be a number of seconds >= 0")
        if not (callable(on_drift) or on_drift in ("log", "reset")):
            raise ParameterError(f"on_drift is {on_drift!r}; it must be 'log', 'reset' or a function")
        if not (drift is None or isinstance(drift, DriftAlarm)):
            raise ParameterError(f"drift is {drift!r}; it must be a DriftAlarm or None")
        if not (until is None or callable(until) or _is_count(until)):
            raise ParameterError(f"until is {until!r}; it must be a number of rows >= 1, or a function of the update")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _enough(until: Until | None, update: Update, learned: int) -> bool:
    if until is None:
        return False
    return bool(until(update)) if callable(until) else learned >= until


def _what_is_kept(stream: Stream) -> str:
    """After a failure that is none of a record."""
    name = redacted(stream.name)
    if stream.replayable or getattr(stream, "inline", False):
        return f"no record of {name} is lost by this: the same call goes on behind the last that was learned"
    return f"what was read ahead of {name} and not learned yet is gone: its producer has to send it again"


def _sound(on_drift: OnDrift, update: Update) -> None:
    logger.warning(
        "drift at row %d: the mini-batch was predicted at %.4g nats a row, far below its like%s",
        update.rows,
        update.log_likelihood,
        "; the model is learned anew from here" if on_drift == "reset" else "",
    )
    if callable(on_drift):
        on_drift(update)


def _with_memory(state: State, **changes: Any) -> State:
    assert state.memory is not None
    return replace(state, memory=state.memory.replace(**changes))


def _nothing(done: ChunkDone) -> None:
    """Nobody watches single chunks."""


def _require_same_model(mine: dict[str, Any], theirs: dict[str, Any], path: PathLike) -> None:
    """Refuse to go on with a model of other hyperparameters."""
    differing = [name for name in mine if mine[name] != theirs.get(name)]
    if differing:
        lines = "; ".join(f"{name}: {theirs.get(name)!r} there, {mine[name]!r} here" for name in differing)
        raise CheckpointMismatchError(
            f"{path} holds another model ({lines}); name another checkpoint, or start from `load({str(path)!r})`"
        )
