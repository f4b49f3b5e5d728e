"""`fit_stream`: an estimator that learns from a stream, and its files."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path as PathLike
from typing import Any

import numpy as np

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import CheckpointMismatchError, ParameterError, SchemaError, StreamemError
from streamem.core.ports import Stream
from streamem.core.redaction import redacted
from streamem.estimators.hyperparameters import check_hyperparameters, run_key
from streamem.estimators.making import learning_of
from streamem.estimators.model_files import read_model, write_model
from streamem.machine.importing import import_whole
from streamem.online.follow import Learner, Reader, follow
from streamem.online.learner import step_rule
from streamem.online.nothing_learned import require_learned
from streamem.online.updates import Update
from streamem.running.fitted import Fitted, StreamPlace
from streamem.running.memory import parse_bytes
from streamem.streams import open_stream

logger = logging.getLogger("streamem")

NEEDS_ARROW = ("streamem.online.live_files", "streamem.online.mini_batches", "streamem.online.records")
IDENTITY = ("class", "n_components", "n_mix", "covariance_type", "family")
"""Hyperparameters without which parameters mean nothing: those of a checkpoint have to be the same."""

Path = str | os.PathLike[str]
OnDrift = str | Callable[[Update], object]
Until = int | Callable[[Update], bool]


@dataclass(frozen=True)
class StreamArguments:
    """What a call of `fit_stream` was passed; see there."""

    half_life: float | None
    step: StepSize | None
    batch_rows: int
    columns: Sequence[str] | None
    sample_weight: str | None
    checkpoint: Path | None
    save_every_s: float
    dead_letter: Path | None
    poison_limit: float
    dead_letter_limit: int | str | None
    history: Path | None
    drift: DriftAlarm | None
    on_drift: OnDrift
    until: Until | None

    def check(self) -> None:
        """Refuse values that cannot be."""
        if not _is_count(self.batch_rows):
            raise ParameterError(f"batch_rows is {self.batch_rows!r}; it must be an integer >= 1")
        if not 0 <= self.poison_limit <= 1:
            raise ParameterError(f"poison_limit is {self.poison_limit!r}; it must be a share from 0 to 1")
        if not self.save_every_s >= 0:
            raise ParameterError(f"save_every_s is {self.save_every_s!r}; it must be a number of seconds >= 0")
        if not (callable(self.on_drift) or self.on_drift in ("log", "reset")):
            raise ParameterError(f"on_drift is {self.on_drift!r}; it must be 'log', 'reset' or a function")
        if not (self.drift is None or isinstance(self.drift, DriftAlarm)):
            raise ParameterError(f"drift is {self.drift!r}; it must be a DriftAlarm or None")
        if not (self.until is None or callable(self.until) or _is_count(self.until)):
            raise ParameterError(
                f"until is {self.until!r}; it must be a number of rows >= 1, or a function of the update"
            )

    @property
    def alarm(self) -> DriftAlarm | None:
        """What watches; nothing only if nobody wants to know."""
        return DriftAlarm() if self.drift is None and self.on_drift != "log" else self.drift

    @property
    def limit(self) -> float:
        """Share of the latest records that may be unusable."""
        return self.poison_limit if self.dead_letter is not None else 0.0


def learn_stream(estimator: Any, stream: Any, arguments: StreamArguments) -> None:
    """Learn from a stream until it ends or `stop` of the estimator is called; its attributes show what was learned."""
    check_hyperparameters(estimator)
    arguments.check()
    rule, most_letters = step_rule(arguments.half_life, arguments.step), parse_bytes(arguments.dead_letter_limit)
    # Arrow is imported by those only who read a stream.
    live_files, mini_batches, records = map(import_whole, NEEDS_ARROW)
    learner = _learner(estimator, rule, arguments)
    followers, before = estimator._following(), learner.fitted
    with ExitStack() as stack:
        stack.callback(_show_news, estimator, learner, before)
        files = stack.enter_context(
            live_files.LiveFiles(
                _live_model(live_files, estimator, learner),
                arguments.checkpoint,
                arguments.dead_letter,
                arguments.history,
                arguments.save_every_s,
                most_letters,
            )
        )
        names = _feature_names(learner, arguments.columns)
        weight = arguments.sample_weight
        opened = open_stream(stream, None if names is None else names + ([] if weight is None else [weight]))
        shape = learner.fitted.shape
        decoder = records.Decoder(names, weight, None if shape is None else shape.features)
        if arguments.checkpoint is None and getattr(opened, "anonymous", False):
            learner.moved(opened, {})  # another list is other data
        cutter = mini_batches.Cutter(decoder, learner.positions(opened), int(arguments.batch_rows), arguments.limit)
        unread, followers.unread = followers.unread, None
        if unread is not None and unread[0] is stream:
            cutter.resume(unread[1])
        followers.stopping = stopping = threading.Event()
        try:
            _learn_all(estimator, learner, Reader(opened, cutter, decoder, files, stopping), arguments)
        except Exception as error:
            if not isinstance(error, StreamemError):
                error.add_note(_what_is_kept(opened))
            raise
        finally:
            followers.stopping = None
            if not opened.replayable and any(cutter.unread):
                followers.unread = (stream, cutter.unread)
        if cutter.came.refused:
            told = cutter.came.refused, cutter.came.records, arguments.dead_letter
            logger.info("%d of %d records cannot be used; %s holds them", *told)
        k, stopped = estimator.n_components, stopping.is_set()
        require_learned(learner, k, opened.name, cutter.came, arguments.dead_letter, stopped)


def _learner(estimator: Any, rule: StepSize, arguments: StreamArguments) -> Learner:
    structure = estimator.structure

    def opened(chunk: Any, shape: Any) -> Any:
        return structure.reopened(estimator, chunk, shape)

    learning = learning_of(estimator, rule, "threads")
    return Learner(estimator._to_learn(), learning, opened, arguments.alarm, arguments.on_drift == "reset")


def _learn_all(estimator: Any, learner: Learner, reader: Reader, arguments: StreamArguments) -> None:
    learned, until, followers = 0, arguments.until, estimator._following()
    with closing(follow(learner, reader)) as batches:
        for batch, update in batches:
            learned += batch.chunk.rows
            if update is None:
                continue
            if update.drift or callable(until) or followers.callbacks:
                _show(estimator, learner)
            if update.drift:
                _sound(arguments.on_drift, update)
            for kind in ("born", "died"):
                if components := getattr(update, kind):
                    logger.info("components %s %s at row %d", list(components), kind, update.rows)
            followers.tell(update)
            if until is not None and (until(update) if callable(until) else learned >= until):
                return


def _show(estimator: Any, learner: Learner) -> None:
    """Bring the attributes up to date: once a save, not once a mini-batch, as long as nobody looks."""
    learner.fitted = estimator._show(learner.fitted)


def _show_news(estimator: Any, learner: Learner, before: Fitted) -> None:
    """Bring the attributes up to date, if anything was learned."""
    if learner.fitted is not before:
        _show(estimator, learner)


def _live_model(live_files: Any, estimator: Any, learner: Learner) -> Any:
    """The estimator as its files need it."""

    def save(path: PathLike, lengths: Mapping[str, Any], keep: int) -> None:
        place = learner.fitted.stream or StreamPlace()
        learner.fitted = replace(learner.fitted, stream=replace(place, lengths=lengths))
        write_model(path, estimator, learner.fitted, estimator._published, keep)

    return live_files.LiveModel(
        learner, lambda path: _restored(estimator, learner, path), lambda: _show(estimator, learner), save
    )


def _restored(estimator: Any, learner: Learner, path: PathLike) -> dict[str, Any]:
    """Become what a checkpoint holds; [path, bytes] of the files beside it."""
    objects = {name: getattr(estimator, name) for name in estimator.face.objects}
    settings, loaded = read_model(type(estimator), path, objects, newest=True)
    _require_same_model(run_key(estimator), run_key(settings), path)
    mine = learner.fitted.state
    assert loaded.state is not None
    if mine is not None and mine.params != loaded.state.params:
        logger.warning("%s holds another state than this object, which is given up", path)
    learner.fitted = loaded
    logger.info("going on from %s at row %d", path, loaded.state.rows)
    return {} if loaded.stream is None else dict(loaded.stream.lengths)


def _require_same_model(mine: Mapping[str, Any], theirs: Mapping[str, Any], path: PathLike) -> None:
    """Refuse to go on with a model of other hyperparameters."""
    differing = [name for name in IDENTITY if name in mine and mine[name] != theirs.get(name)]
    if differing:
        lines = "; ".join(f"{name}: {theirs.get(name)!r} there, {mine[name]!r} here" for name in differing)
        raise CheckpointMismatchError(
            f"{path} holds another model ({lines}); name another checkpoint, or start from `load({str(path)!r})`"
        )


def _feature_names(learner: Learner, columns: Sequence[str] | None) -> list[str] | None:
    """Names of the fitted features in their order, whatever the order of `columns`; before the fit, `columns`."""
    shape = learner.fitted.shape
    fitted = [] if shape is None else [str(name) for name in shape.names or ()]
    if columns is None:
        return fitted or None
    chosen = [columns] if isinstance(columns, str) else list(columns)
    if fitted and {re.sub(r"\[\d+\]$", "", name) for name in fitted} != set(chosen) != set(fitted):
        raise SchemaError(f"the features {chosen} were chosen, but {fitted} were fitted")
    return fitted or chosen


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


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
