"""The loop: reduce a window of E-steps, update, again. It names no model, source, executor or algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, SourceChangedError
from streamem.core.ports import Algorithm, ChunkDone, ChunkRef, Executor, Model, PassTask, Source
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


def run(
    model: Model,
    source: Source,
    refs: Sequence[ChunkRef],
    algorithm: Algorithm,
    executor: Executor,
    state: State,
    fingerprint: str,
    observers: Sequence[Observer] = (),
) -> State:
    """Run `algorithm` to its end, on data that still has the given fingerprint.

    Raises
    ------
    SourceChangedError : the source was rewritten meanwhile; looked for once a pass, before its end enters the state
    """

    def chunk_done(done: ChunkDone) -> None:
        for observer in observers:
            observer.chunk_done(done)

    visited, checked = 0, Checked()
    while window := algorithm.window(state, refs):
        for observer in observers:
            observer.window_started(state, window)
        rows = sum(ref.rows for ref in window)
        task = EStep(model, model.for_pass_of(state.params, rows), source.schema.names, checked=checked)
        stats = executor.reduce(task.ready(executor, window), window, chunk_done)
        visited += rows
        pass_over = visited >= source.n_rows
        if pass_over:
            require_unchanged(source, fingerprint)
            visited = 0
        before, state = state, algorithm.update(model, state, stats)
        for observer in observers:
            observer.window_ended(before, state, pass_over)
    return state


def require_unchanged(source: Source, fingerprint: str) -> None:
    """Raise `SourceChangedError` unless the source is as it was."""
    now = source.fingerprint()
    if now != fingerprint:
        raise SourceChangedError(
            f"{source.schema.origin} changed while it was being read (fingerprint {fingerprint} before, {now} now); "
            "EM needs the same rows in every pass. Fit a copy or a snapshot"
        )
