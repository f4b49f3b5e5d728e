"""Ports of how a model is fitted: tasks, executors that run them over chunks, and algorithms."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.completing import completed
from streamem.core.ports.data import ChunkRef
from streamem.core.ports.model import Model
from streamem.core.state import State
from streamem.core.stats import Stats

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")

REJECTED = "rejected"
"""The kind of a pass whose parameters were a proposal that has been turned down."""

ORDER_BYTES = 8
"""For each row of an open chunk, while mini-batches draw from it in a random order."""


class Task(Protocol[Result_co]):
    """What an executor does with each chunk; picklable."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Result_co: ...


class PassTask(ABC, Generic[Result_co]):
    """A `Task` for all chunks of a plan, which may have to know something of all of them first."""

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> PassTask[Result_co]:
        """The task with all that it needs to know of other chunks: by default nothing."""
        return self

    @abstractmethod
    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Result_co:
        """What is done with one chunk."""


@dataclass(frozen=True)
class ChunkDone:
    """What an executor reports after each chunk.

    Attributes
    ----------
    rows, nbytes : of the chunk
    wait_s, compute_s : that it took
    retried : requests of a store that were made again since the last report
    """

    rows: int
    nbytes: int
    wait_s: float
    compute_s: float
    retried: int = 0


OnChunk = Callable[[ChunkDone], None]


class Job(Protocol[Result_co]):
    """A picklable piece of work: a task applied to some chunks, and what is done with the results where they are."""

    @property
    def refs(self) -> Sequence[ChunkRef]:
        """The chunks that it needs."""

    def with_refs(self, refs: Sequence[ChunkRef]) -> Job[Result_co]:
        """This work with other handles on the same chunks."""

    def __call__(self, task: Task[Any], load: Callable[[ChunkRef], Chunk]) -> Result_co: ...


class Executor(ABC):
    """Runs a task over chunks.

    Law: results depend on the plan only, never on threads, workers, or the order in which they finish.
    """

    @abstractmethod
    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks, along the fixed tree of `core.reduction`."""

    @abstractmethod
    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order, with a bounded number in flight."""

    def expect(self, refs: Sequence[ChunkRef]) -> None:
        """Prepare for a pass over these chunks, which is asked for soon; by default nothing has to be."""
        return

    def work(
        self, task: Task[Any], jobs: Sequence[Job[Result]], on_chunk: OnChunk
    ) -> Iterator[tuple[Job[Result], Result]]:
        """Run the jobs in any order; each, and what it returned, as they finish. A job may run twice.

        By default one after the other in the calling thread; workers elsewhere do more with a result than send it here.
        """
        for job in jobs:
            result = job(task, lambda ref: ref.load())
            on_chunk(ChunkDone(sum(ref.rows for ref in job.refs), sum(ref.nbytes for ref in job.refs), 0.0, 0.0))
            yield job, result


class StoppingRule(Protocol):
    """Whether EM has converged."""

    def met(self, trace: Sequence[float]) -> bool:
        """Judge by the trace so far, oldest first."""


@dataclass(frozen=True)
class Limits:
    """What a call allows an algorithm.

    Attributes
    ----------
    open_bytes : of chunks that may be open at once, and of statistics that may be remembered
    least_rows : enough to estimate every component
    statistics_bytes : of the statistics of one window
    max_iter : most passes, where the algorithm does not say itself
    """

    open_bytes: int
    least_rows: int
    statistics_bytes: int
    max_iter: int


class Variant(ABC):
    """An EM variant as a user chooses it: facts about it, and the `Algorithm` that it becomes for the chunks of a fit.

    A user's own needs `planned` only; every other method and fact has a default.
    """

    @property
    def name(self) -> str:
        """What users call it."""
        return type(self).__name__

    @property
    def key(self) -> str:
        """What identifies it in a checkpoint, in other processes too: without the addresses of functions.

        Settings that may change when a fit goes on (a tolerance, a number of passes) are no part of it.
        """
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self))

    @property
    def reads_in_order(self) -> bool:
        """Whether windows visit the chunks about in their order."""
        return True

    @property
    def can_end_unconverged(self) -> bool:
        """Whether a run ends as it should without having converged: after a number of passes, say."""
        return False

    @property
    def sees_all_rows(self) -> bool:
        """Whether every M-step follows from one pass over all rows."""
        return False

    @property
    def exchanges(self) -> bool:
        """Whether a fit from one start by k-means first splits and merges components on the sample."""
        return False

    @property
    def compares_starts(self) -> bool:
        """Whether final states know the log-likelihood of all rows, by which the best of several starts is chosen."""
        return True

    def with_stopping(self, rule: StoppingRule) -> Variant:
        """The variant with a stopping rule, where it needs one and the user gave none."""
        return self

    @abstractmethod
    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> Algorithm:
        """The algorithm for these chunks; a pure function of their sizes."""

    def open_bytes(self, refs: Sequence[ChunkRef], limits: Limits) -> int:
        """Bytes of chunks or statistics that the planned algorithm keeps in memory from window to window."""
        largest = max((ref.nbytes + ORDER_BYTES * ref.rows for ref in refs), default=0)
        return max(limits.open_bytes, 2 * largest)


class Algorithm(Variant):
    """A window rule and an update rule over statistics. It knows no model.

    A user's own needs `start`, `window` and `update`, and need not inherit.
    """

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> Algorithm:
        """The algorithm itself, which needs no plan."""
        return self

    def open_bytes(self, refs: Sequence[ChunkRef], limits: Limits) -> int:
        """Bytes kept from window to window: 0, a window is forgotten with its statistics."""
        return 0

    @abstractmethod
    def start(self, params: Params) -> State:
        """The state before the first window."""

    def resume(self, state: State) -> State:
        """The state from which an ended run goes on, its memory kept; by default a start from its parameters."""
        return self.start(state.params)

    def reopen(self, state: State) -> State:
        """An ended run that would not have ended yet under the present settings, opened again; else unchanged."""
        return state

    def withdrawn(self, model: Model, state: State) -> State | None:
        """The state without parameters that were only proposed, where their E-step fails; None where none were."""
        return None

    def pass_kind(self, before: State, after: State) -> str:
        """What kind of pass led from one state to the next, in a word for the report; `REJECTED` has a meaning."""
        return ""

    @abstractmethod
    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The chunks to visit next; empty when the run is over."""

    @abstractmethod
    def update(self, model: Model, state: State, stats: Stats) -> State:
        """The state after the window's statistics.

        `partial_fit` goes on from the last state: its memory is None, or what `streamem.algorithms.remember` makes.
        """


def variant_of(chosen: Any) -> Variant | None:
    """What a user passed as algorithm, completed by the defaults; None where it is no algorithm."""
    if hasattr(chosen, "planned"):
        return completed(chosen, Variant)
    if all(hasattr(chosen, name) for name in ("start", "window", "update")):
        return completed(chosen, Algorithm)
    return None
