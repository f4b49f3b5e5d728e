"""`fit_stream`: an estimator that learns from a stream, and its files."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import CheckpointMismatchError, ParameterError, SchemaError, StreamemError
from streamem.core.ports import Stream
from streamem.core.redaction import redacted
from streamem.core.stored_objects import SoleWriter
from streamem.estimators.apart_columns import with_columns_apart
from streamem.estimators.followers import followers_of
from streamem.estimators.hyperparameters import check_hyperparameters, run_key
from streamem.estimators.making import learning_of, to_learn_from
from streamem.estimators.model_files import read_model, write_model
from streamem.estimators.row_inputs import categories_for
from streamem.estimators.row_noise import with_kind, without_kind
from streamem.estimators.sequence_inputs import driving
from streamem.estimators.structure import DataArguments
from streamem.machine.importing import import_whole
from streamem.online.behind import Behind
from streamem.online.continued import continued_step
from streamem.online.follow import Learner, Reader, follow
from streamem.online.learner import step, step_rule
from streamem.online.nothing_learned import require_learned
from streamem.online.updates import Update
from streamem.online.watching import Watched
from streamem.running.fitted import Fitted, Shape, StreamPlace
from streamem.running.memory import parse_bytes
from streamem.streams import open_stream

if TYPE_CHECKING:
    from streamem.online.mini_batches import Cutter
    from streamem.online.records import Decoder

logger = logging.getLogger("streamem")

IDENTITY = ("class", "n_components", "n_mix", "covariance_type", "family")
"""Hyperparameters without which parameters mean nothing: those of a checkpoint have to be the same."""

Path = str | os.PathLike[str]
OnDrift = str | Callable[[Update], object]
Until = int | Callable[[Update], bool]
OwnDecoder = Callable[[bytes, Sequence[tuple[str, bytes | None]]], Any]


@dataclass(frozen=True)
class StreamArguments:
    """What a call of `fit_stream` was passed; see there."""

    half_life: float | None = None
    step: StepSize | None = None
    batch_rows: int = 1000
    columns: Sequence[str] | None = None
    sample_weight: str | None = None
    checkpoint: Path | None = None
    save_every_s: float = 10.0
    dead_letter: Path | None = None
    poison_limit: float = 0.01
    dead_letter_limit: int | str | None = "1GiB"
    history: Path | None = None
    drift: DriftAlarm | None = None
    on_drift: OnDrift = "log"
    until: Until | None = None
    sequence_column: str | None = None
    continued: bool = False
    most_steps: int = 0
    categories: Mapping[str, Sequence[Any]] | None = None
    decoder: OwnDecoder | None = None
    noise: Any = None
    response: str | None = None

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
        if not (self.decoder is None or callable(self.decoder)):
            raise ParameterError(
                f"decoder is {self.decoder!r}; it must be a function of the bytes of a message and its headers, such "
                "as RegistryDecoder(url)"
            )
        if not (self.drift is None or isinstance(self.drift, DriftAlarm)):
            raise ParameterError(f"drift is {self.drift!r}; it must be a DriftAlarm or None")
        if not (self.until is None or callable(self.until) or _is_count(self.until)):
            raise ParameterError(
                f"until is {self.until!r}; it must be a number of rows >= 1, or a function of the update"
            )

    def check_sequences(self) -> None:
        """Refuse what is said of sequences and cannot be."""
        if not _is_count(self.most_steps):
            raise ParameterError(f"most_steps is {self.most_steps!r}; it must be an integer >= 1")
        if self.continued and self.sequence_column is not None:
            raise ParameterError(
                f"continued=True takes all records for steps of one sequence, and sequence_column="
                f"{self.sequence_column!r} tells several apart; pass one of them"
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
    estimator.structure.refuse(estimator, "a stream")
    arguments.check()
    rule, most_letters = step_rule(arguments.half_life, arguments.step), parse_bytes(arguments.dead_letter_limit)
    # Arrow is imported by those only who read a stream.
    live_files = import_whole("streamem.online.live_files")
    learner = _learner(estimator, rule, arguments)
    followers, before = followers_of(estimator), learner.fitted
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
        learner.fitted = with_columns_apart(estimator, learner.fitted, arguments.columns)
        learner.behind = behind = _behind(estimator, learner.fitted.shape, arguments)
        if behind is not None and learner.fitted.shape is not None:
            learner.fitted = with_kind(learner.fitted, behind.again(learner.fitted.shape))
        estimator.structure.check_online(learner.learning.model(learner.fitted), learner.fitted)
        names, weight = _names_of_rows(estimator, learner, arguments.columns), arguments.sample_weight
        column = _sequence_column(estimator, learner, arguments)
        also = [name for name in (weight, column) if name is not None]
        opened = open_stream(stream, None if names is None else names + also)
        decoder = _decoder(estimator, learner, names, weight, column, arguments)
        if arguments.checkpoint is None and getattr(opened, "anonymous", False):
            learner.moved(opened, {})  # another list is other data
        cutter = _cutter(estimator, decoder, learner.positions(opened), arguments, column)
        unread, followers.unread = followers.unread, None
        if unread is not None and unread[0] is stream:
            cutter.resume(unread[1])
        followers.stopping = stopping = threading.Event()
        followers.watched = Watched(learner, opened, files, cutter.came)
        try:
            _learn_all(estimator, learner, Reader(opened, cutter, decoder, files, stopping), arguments)
        except Exception as error:
            if not isinstance(error, StreamemError):
                error.add_note(_what_is_kept(opened))
            raise
        finally:
            followers.stopping = followers.watched = None
            if not opened.replayable and any(cutter.unread):
                followers.unread = (stream, cutter.unread)
        if cutter.came.refused:
            told = cutter.came.refused, cutter.came.records, arguments.dead_letter
            logger.info("%d of %d records cannot be used; %s holds them", *told)
        k = estimator.structure.count(estimator) if estimator.structure.has_components else None
        stopped = stopping.is_set()
        require_learned(learner, k, opened.name, cutter.came, arguments.dead_letter, stopped)


def _behind(estimator: Any, shape: Shape | None, arguments: StreamArguments) -> Behind | None:
    """Columns of the records that are no features."""
    told = DataArguments(categories=arguments.categories, noise=arguments.noise, response=arguments.response)
    found: Behind | None = estimator.structure.behind(estimator, shape, told)
    return found


def _learner(estimator: Any, rule: StepSize, arguments: StreamArguments) -> Learner:
    structure = estimator.structure

    def opened(chunk: Any, shape: Any) -> Any:
        return structure.reopened(estimator, chunk, shape)

    learning, resets = learning_of(estimator, rule, "threads"), arguments.on_drift == "reset"
    learner = Learner(to_learn_from(estimator), learning, opened, arguments.alarm, resets)
    learner.apart = lambda shape: structure.apart(estimator, shape, arguments.columns)
    if structure.is_sequential:
        arguments.check_sequences()
        learner.sequences = {}
        learner.advance = continued_step if arguments.continued else step
    return learner


def _sequence_column(estimator: Any, learner: Learner, arguments: StreamArguments) -> str | None:
    """The field that identifies sequences: the one that was passed, else that of the fit."""
    if not estimator.structure.is_sequential or arguments.continued:
        return None
    column, shape = arguments.sequence_column, learner.fitted.shape
    if column is None and shape is not None:
        column = shape.sequences.get("sequence_column")
    learner.sequences = {} if column is None else {"sequence_column": column}
    return column


def _decoder(
    estimator: Any, learner: Learner, names: Any, weight: str | None, column: str | None, arguments: StreamArguments
) -> Decoder:
    """What makes rows, or steps, of messages; Arrow is imported by those only who read a stream."""
    shape = learner.fitted.shape
    behind = learner.behind
    width = None if shape is None else shape.width + (0 if behind is None else behind.count)
    missing = learner.learning.model(learner.fitted).missing
    known = categories_for(estimator, shape, arguments.categories) if behind is None else behind.categories
    vocabulary = import_whole("streamem.online.vocabulary").Vocabulary(
        known if isinstance(known, Mapping) else {},
        estimator.unseen,
        is_open=shape is None and known is not None and behind is None,
    )
    rest = missing, vocabulary, arguments.decoder
    if not estimator.structure.is_sequential:
        decoder: Decoder = import_whole("streamem.online.records").Decoder(names, weight, width, *rest, behind)
    else:
        steps = import_whole("streamem.online.sequence_records")
        driven = driving(estimator) if shape is None else shape.covariates
        decoder = steps.StepDecoder(names, weight, width, column, *rest, driven)
    return decoder


def _cutter(
    estimator: Any, decoder: Decoder, positions: Mapping[str, Any], arguments: StreamArguments, column: str | None
) -> Cutter:
    """What makes mini-batches: of so many rows, of whole sequences, or of blocks of one that never ends."""
    given = decoder, positions, int(arguments.batch_rows), arguments.limit
    if not estimator.structure.is_sequential:
        cutter: Cutter = import_whole("streamem.online.mini_batches").Cutter(*given)
    elif arguments.continued:
        cutter = import_whole("streamem.online.sequence_batches").EndlessCutter(*given)
    else:
        sequences = import_whole("streamem.online.sequence_batches")
        cutter = sequences.SequenceCutter(*given, int(arguments.most_steps), column is None)
    return cutter


def _learn_all(estimator: Any, learner: Learner, reader: Reader, arguments: StreamArguments) -> None:
    learned, until, followers = 0, arguments.until, followers_of(estimator)
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
                    told = list(components), kind, update.rows
                    logger.info("components %s %s at row %d", *told, extra=asdict(update) | {"event": kind})
            followers.tell(update)
            if until is not None and (until(update) if callable(until) else learned >= until):
                return


def _show(estimator: Any, learner: Learner) -> None:
    """Bring the attributes up to date: once a save, not once a mini-batch, as long as nobody looks."""
    learner.fitted = estimator._show(learner.fitted)


def _show_news(estimator: Any, learner: Learner, before: Fitted) -> None:
    """Bring the attributes up to date, if anything was learned."""
    learner.fitted = without_kind(learner.fitted)
    if learner.fitted is not before:
        _show(estimator, learner)


def _live_model(live_files: Any, estimator: Any, learner: Learner) -> Any:
    """The estimator as its files need it."""

    def save(path: Path, lengths: Mapping[str, Any], keep: int, only: SoleWriter | None) -> None:
        place = learner.fitted.stream or StreamPlace()
        learner.fitted = replace(learner.fitted, stream=replace(place, lengths=lengths))
        write_model(path, estimator, learner.fitted, estimator._published, keep, only)

    return live_files.LiveModel(
        learner, lambda path: _restored(estimator, learner, path), lambda: _show(estimator, learner), save
    )


def _restored(estimator: Any, learner: Learner, path: Path) -> dict[str, Any]:
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


def _require_same_model(mine: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with a model of other hyperparameters."""
    differing = [name for name in IDENTITY if name in mine and mine[name] != theirs.get(name)]
    if differing:
        lines = "; ".join(f"{name}: {theirs.get(name)!r} there, {mine[name]!r} here" for name in differing)
        raise CheckpointMismatchError(
            f"{path} holds another model ({lines}); name another checkpoint, or start from `load({str(path)!r})`"
        )


def _names_of_rows(estimator: Any, learner: Learner, columns: Sequence[str] | None) -> list[str] | None:
    """Names of all columns of a row: those fitted in their order, whatever the order of `columns`; else `columns`."""
    shape = learner.fitted.shape
    fitted = [] if shape is None else [str(name) for name in shape.all_names or ()]
    behind = [] if learner.behind is None else list(learner.behind.names)
    if columns is None:
        return [*fitted, *behind] if fitted else None
    chosen = estimator.structure.columns_of_rows(estimator, [columns] if isinstance(columns, str) else columns)
    if fitted and {re.sub(r"\[\d+\]$", "", name) for name in fitted} != set(chosen) != set(fitted):
        raise SchemaError(f"the features {chosen} were chosen, but {fitted} were fitted")
    return [*(fitted or [name for name in chosen if name not in behind]), *behind]


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
        extra=asdict(update) | {"event": "drift"},
    )
    if callable(on_drift):
        on_drift(update)
