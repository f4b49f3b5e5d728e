"""The task of a pass, who watches passes, and what ends a fit whose data change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, SourceChangedError
from streamem.core.ports import ChunkDone, ChunkRef, Executor, Model, PassTask, Source
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.core.validation import Checked, locating, where
from streamem.models.boundaries import boundaries


@dataclass(frozen=True, eq=False)
class EStep(PassTask[Stats]):
    """The task of a pass: check a chunk, then its expected sufficient statistics."""

    model: Model
    params: Params
    names: tuple[str, ...] | None
    messages: Mapping[int, Boundary] = field(default_factory=dict)
    """What lies beyond chunks that cut a sequence, by index."""
    checked: Checked = field(default_factory=Checked)

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> EStep:
        """This task with the boundaries of cut sequences: takes passes over the chunks that cut one."""
        if not self.model.joins_pieces:
            return self
        return replace(self, messages=boundaries(self.model, self.params, refs, executor, self.names))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Statistics of one chunk."""
        self.checked.require_finite(chunk, ref, self.names, self.model.missing)
        try:
            with locating(chunk, ref, self.names):
                return self.model.e_step(self.params, chunk, self.messages.get(ref.index))
        except NumericalError as error:
            raise NumericalError(f"{where(ref)}: {error}") from error


class Observer(Protocol):
    """Watches a run: progress, report, checkpoint."""

    def window_started(self, state: State, window: Sequence[ChunkRef]) -> None:
        """Before the first chunk of a window."""

    def chunk_done(self, done: ChunkDone) -> None:
        """After each chunk, in the calling thread."""

    def window_ended(self, before: State, after: State, pass_over: bool) -> None:
        """After the update; `pass_over` is whether all rows have been visited once more."""


def require_unchanged(source: Source, fingerprint: str) -> None:
    """Raise `SourceChangedError` unless the source is as it was."""
    now = source.fingerprint()
    if now != fingerprint:
        named = source.changes() if isinstance(source, Source) else ""
        raise SourceChangedError(
            f"{source.schema.origin} changed while it was being read "
            f"({f'{named}; ' if named else ''}fingerprint {fingerprint} before, {now} now); "
            "EM needs the same rows in every pass. Fit a copy or a snapshot"
        )
