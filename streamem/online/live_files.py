"""The files of a model that lives on a stream: the model with its positions, dead letters, history; one writer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from streamem.core.addresses import Address
from streamem.core.archive import generations
from streamem.core.archive_reading import is_there, place_of
from streamem.core.errors import OutputError, ParameterError, WriterConflictError
from streamem.core.file_locks import locked_folder
from streamem.core.ports import Stream
from streamem.core.redaction import redacted
from streamem.core.stored_objects import SoleWriter, require_writable
from streamem.online.append_only_arrow import AppendedStream
from streamem.online.append_only_objects import StoredStream, set_parts_aside
from streamem.online.follow import Learner
from streamem.online.history import SCHEMA, as_columns
from streamem.online.mini_batches import Poison
from streamem.online.updates import Update

DEAD_LETTERS = pa.schema(
    [
        ("partition", pa.string()),
        ("position", pa.string()),
        ("record", pa.int64()),
        ("reason", pa.string()),
        ("payload", pa.binary()),
    ]
)
logger = logging.getLogger("streamem")

GENERATIONS = 2
PENDING_UPDATES = 1000


@dataclass(frozen=True)
class LiveModel:
    """A model that lives on a stream, as its files need it.

    Attributes
    ----------
    learner : holds what is fitted
    restore : from the path of a checkpoint, become what it holds; [path, bytes] of the files beside it
    show : bring the public attributes up to date
    save : write the model to a path, with [path, bytes] of the files beside it, keep so many earlier generations, as
        the only one who may write there
    """

    learner: Learner
    restore: Callable[[Path | Address], Mapping[str, Any]]
    show: Callable[[], None]
    save: Callable[[Path | Address, Mapping[str, Any], int, SoleWriter | None], None]


class LiveFiles:
    """Everything on disk that belongs to one call of fit_stream.

    Parameters
    ----------
    model : becomes what `checkpoint` holds, if that exists
    checkpoint, dead_letter, history : paths, or addresses of stores, or None
    save_every_s : seconds between saves
    dead_letter_limit : most bytes of dead letters, or None
    """

    def __init__(
        self,
        model: LiveModel,
        checkpoint: Any,
        dead_letter: Any,
        history: Any,
        save_every_s: float,
        dead_letter_limit: int | None = None,
    ) -> None:
        self._limits = {"dead_letter": dead_letter_limit}
        self._model, self._every_s = model, save_every_s
        self._path = None if checkpoint is None else place_of(checkpoint)
        self._only: SoleWriter | None = None
        given = {"dead_letter": dead_letter, "history": history}
        self._paths = {name: place_of(path) for name, path in given.items() if path is not None}
        self._files: dict[str, AppendedStream | StoredStream] = {}
        self._closing = ExitStack()
        self._updates: list[Update] = []
        self._own: tuple[int, int, int] | None = None
        self._saved, self._dirty = monotonic(), False

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._closing.close()
            raise
        return self

    def _open(self) -> None:
        self._require_apart()
        for place in self._paths.values():
            if isinstance(place, Address):
                require_writable(place)
        lengths: Mapping[str, Any] | None = None
        if isinstance(self._path, Address):
            require_writable(self._path)
            self._only = SoleWriter(self._path)
            if any(map(is_there, generations(self._path))):
                lengths = self._model.restore(self._path)
        elif self._path is not None:
            if not self._path.parent.is_dir():
                raise OutputError(f"{self._path}: there is no folder {self._path.parent}; create it first")
            with locked_folder(self._path.parent):
                if any(path.exists() for path in generations(self._path)):
                    lengths = self._model.restore(self._path)
                self._own = _identity(self._path)
        for name, schema in (("dead_letter", DEAD_LETTERS), ("history", SCHEMA)):
            if name not in self._paths:
                continue
            place = self._paths[name]
            if self._path is not None and lengths is None:
                _set_aside(place)
            known, nbytes = (lengths or {}).get(name, (None, None))
            told = schema, nbytes if known == self._relative(place) else None, self._limits.get(name)
            file = StoredStream(place, *told) if isinstance(place, Address) else AppendedStream(place, *told)
            self._files[name] = self._closing.enter_context(closing(file))
        self.mark()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def seconds_since_save(self) -> float:
        """Seconds since everything was saved, or since the files were opened."""
        return monotonic() - self._saved

    def mark(self) -> None:
        """What the files hold now belongs to the present state and positions; what comes later does not yet."""
        self._marks = {name: [self._relative(file.path), file.length] for name, file in self._files.items()}

    def _relative(self, path: Path | Address) -> str:
        """Seen from the checkpoint, so that all may be moved together; of a store, the address without passwords."""
        if isinstance(path, Address):
            return str(path)
        if isinstance(self._path, Address):  # from which nothing on this machine can be seen
            return os.path.abspath(path)
        return os.path.relpath(path, "." if self._path is None else self._path.parent)

    def bury(self, poison: Sequence[Poison]) -> None:
        """Append unusable records to the dead letters."""
        if not poison or "dead_letter" not in self._files:
            return
        self._files["dead_letter"].append(
            {
                "partition": [one.partition for one in poison],
                "position": [json.dumps(one.position) for one in poison],
                "record": [one.bad.record for one in poison],
                "reason": [redacted(one.bad.reason) for one in poison],
                "payload": [one.bad.data for one in poison],
            }
        )

    def note(self, update: Update | None, stream: Stream) -> None:
        """After a mini-batch: its row in the history, and a save if one is due."""
        self._dirty = True
        self.mark()
        if update is not None and "history" in self._files:
            self._updates.append(update)
            if len(self._updates) >= PENDING_UPDATES:
                self._write_history()
        self.save_if_due(stream)

    def save_if_due(self, stream: Stream) -> None:
        """Save if the last save is long enough ago."""
        if monotonic() - self._saved >= self._every_s:
            self.save(stream)

    def save(self, stream: Stream) -> None:
        """Save everything; the model last, since it holds the lengths of the others."""
        if not self._dirty:
            return
        self._write_history()
        for file in self._files.values():
            file.sync()
        # Before there is a model there is nothing to save, and after a crash the stream is read from its start.
        if self._model.learner.has_model:
            self._model.show()
            if self._path is not None:
                self._save_model(self._path, self._marks)
            places = self._model.learner.places().get(redacted(stream.name), {})
            stream.commit({partition: where for partition, (where, _) in places.items()})
        self._saved, self._dirty = monotonic(), False

    def _save_model(self, path: Path | Address, lengths: Mapping[str, Any]) -> None:
        if isinstance(path, Address):
            self._model.save(path, lengths, GENERATIONS, self._only)
            return
        with locked_folder(path.parent):
            self._require_own(path)
            try:
                self._model.save(path, lengths, GENERATIONS, None)
            finally:  # nobody else can write now, so whatever is there is ours, also after an interrupt
                self._own = _identity(path)

    def _write_history(self) -> None:
        if self._updates:
            self._files["history"].append(as_columns(self._updates))
            self._updates = []
            self._marks["history"][1] = self._files["history"].length

    def _require_own(self, path: Path) -> None:
        if _identity(path) != self._own:
            raise WriterConflictError(
                f"{path} was written by another process since this one last saved it: two processes learn the same "
                "model. What this one has learned since then is not saved; stop one of them, and start again"
            )

    def _require_apart(self) -> None:
        named = dict(self._paths)
        if self._path is not None:
            if not str(self._path).endswith(".npz"):
                raise ParameterError(f"{self._path}: a checkpoint is a model file and ends in .npz")
            named["checkpoint"] = self._path
        named = {name: place if isinstance(place, Address) else place.resolve() for name, place in named.items()}
        if len(set(named.values())) < len(named):
            raise ParameterError(
                f"{', '.join(named)} need different files; they are {sorted(map(str, named.values()))}"
            )


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when somebody else writes the file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _set_aside(place: Path | Address) -> None:
    """Rename what belongs to a run of which no model is left: what it holds will come again."""
    if isinstance(place, Address):
        aside: Path | Address | None = set_parts_aside(place)
    else:
        aside = _renamed(place)
    if aside is not None:
        logger.warning("%s is of a run without a checkpoint; it is kept as %s", place, aside)


def _renamed(path: Path) -> Path | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return path.rename(aside)
