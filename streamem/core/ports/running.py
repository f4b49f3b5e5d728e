"""Ports of how a model is fitted: tasks, executors that run them over chunks, and algorithms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports.data import ChunkRef
from streamem.core.ports.model import Model
from streamem.core.state import State
from streamem.core.stats import Stats

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class Task(Protocol[Result_co]):
    """What an executor does with each chunk; picklable."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Result_co: ...


@dataclass(frozen=True)
class ChunkDone:
    """What an executor tells after each chunk."""

    rows: int
    nbytes: int
    wait_s: float
    compute_s: float


OnChunk = Callable[[ChunkDone], None]


class Executor(Protocol):
    """Runs a task over chunks.

    Law: results depend on the plan only, never on threads, workers, or the order in which they finish.
    """

    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks, along the fixed tree of `core.reduction`."""

    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order, with a bounded number in flight."""


class Job(Protocol[Result_co]):
    """A picklable piece of work: a task applied to some chunks, and what is done with the results where they are."""

    @property
    def refs(self) -> Sequence[ChunkRef]:
        """The chunks that it needs."""

    def with_refs(self, refs: Sequence[ChunkRef]) -> Job[Result_co]:
        """The same work with other handles on the same chunks."""

    def __call__(self, task: Task[Any], load: Callable[[ChunkRef], Chunk]) -> Result_co: ...


@runtime_checkable
class Remote(Protocol):
    """An executor whose workers may do more with a result than send it here."""

    def work(
        self, task: Task[Any], jobs: Sequence[Job[Result]], on_chunk: OnChunk
    ) -> Iterator[tuple[Job[Result], Result]]:
        """Run the jobs in any order; each, and what it returned, as they finish. A job may run twice."""


class Algorithm(Protocol):
    """An EM variant: a window rule and an update rule over statistics. It knows no model."""

    def start(self, params: Params) -> State:
        """The state before the first window."""

    def resume(self, state: State) -> State:
        """The state from which an ended run goes on, its memory kept."""

    def reopen(self, state: State) -> State:
        """An ended run that would not have ended yet under the present settings, opened again; else unchanged."""

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The chunks to visit next; empty when the run is over."""

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """The state after the window's statistics."""


@dataclass(frozen=True)
class Limits:
    """What a call allows an algorithm.

    Attributes
    ----------
    open_bytes : of chunks that may be open at once, and of statistics that may be remembered
    least_rows : that tell enough of every component to estimate it
    statistics_bytes : of the statistics of one window
    max_iter : most passes, where the algorithm does not say itself
    """

    open_bytes: int
    least_rows: int
    statistics_bytes: int
    max_iter: int


@runtime_checkable
class Plannable(Protocol):
    """An algorithm that becomes one with a plan: it counts rows or chunks."""

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> Algorithm:
        """For these chunks; a pure function of their sizes."""
