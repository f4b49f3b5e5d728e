"""The loop: reduce a window of E-steps, update, again; of several runs that share the reads of their passes.

Runs are restarts of one model, or the models of a sweep. The loop names no model, source, executor or algorithm.
Each run has its own model, algorithm and state, and ends with the bits that it would have had by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, MonotonicityError, NumericalError, StreamemError
from streamem.core.ports import Algorithm, ChunkDone, ChunkRef, Executor, Model, PassTask, Source
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.core.validation import Checked
from streamem.running.fit import EStep, Observer, require_unchanged

OF_ONE_RUN = NumericalError, MonotonicityError, DegenerateDataError
"""Errors that concern one run, where the data can be read."""

OF_A_PROPOSAL = ArithmeticError, ValueError, LookupError, AssertionError
"""Errors, of a user's own code too, that parameters may cause which only were proposed."""

FEWEST_PASSES = 5
"""Before runs are ranked: earlier, ranks mislead."""


@dataclass(frozen=True, eq=False)
class JointEStep(PassTask[Stats]):
    """The E-steps of several runs on each chunk: statistics named by the place of their run, "0", "1", …"""

    steps: tuple[PassTask[Stats], ...]

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> JointEStep:
        """These tasks with what each has to know of other chunks."""
        return JointEStep(tuple(step.ready(executor, refs) for step in self.steps))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Statistics of one chunk for every run."""
        return Stats(**{str(i): step(chunk, ref) for i, step in enumerate(self.steps)})


@dataclass(eq=False)
class Lane:
    """One of the runs.

    Attributes
    ----------
    observers : of this run alone
    group : the runs that are compared when half of them are given up: those with an equal one
    sharing : how many runs shared the last read
    stopped : given up before its end: by halving
    failed : what ended it, where errors of one run are not to end the others
    """

    model: Model
    algorithm: Algorithm
    state: State
    observers: Sequence[Observer] = ()
    group: int = 0
    sharing: int = 1
    passes: int = 0
    stopped: bool = False
    failed: StreamemError | None = None
    _visited: int = 0
    _checked: Checked = field(default_factory=Checked)

    def window(self, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The chunks to visit next; none once the run is over."""
        return () if self.stopped or self.failed else self.algorithm.window(self.state, refs)

    def task(self, source: Source, rows: int) -> EStep:
        """The E-step at the present parameters."""
        params = self.model.for_pass_of(self.state.params, rows)
        return EStep(self.model, params, source.schema.names, checked=self._checked)

    def visits(self, rows: int, of: int) -> bool:
        """Count rows of a window; whether the run has visited all rows once more."""
        self._visited += rows
        if self._visited < of:
            return False
        self._visited, self.passes = 0, self.passes + 1
        return True

    def withdraws(self) -> bool:
        """Whether the parameters whose E-step failed were a proposal only, which is now withdrawn."""
        state = self.algorithm.withdrawn(self.model, self.state)
        self.state = self.state if state is None else state
        return state is not None

    @property
    def proposes(self) -> bool:
        """Whether the parameters are a proposal, without which the run could go on."""
        return self.algorithm.withdrawn(self.model, self.state) is not None

    def moved(self, stats: Stats, pass_over: bool) -> None:
        """Update the state, and tell it."""
        before, self.state = self.state, self.algorithm.update(self.model, self.state, stats)
        for observer in self.observers:
            observer.window_ended(before, self.state, pass_over)


@dataclass(frozen=True)
class Race:
    """How several runs go together.

    Attributes
    ----------
    shared : observers of the reads, told the state of one of the runs that share them
    window_ended : called after each window, told whether a pass was over
    tolerant : an error of one run ends that run only
    halve_after : after so many passes, again and again, the half with the lower log-likelihoods is given up; None for
        never
    """

    source: Source
    refs: Sequence[ChunkRef]
    executor: Executor
    fingerprint: str
    shared: Sequence[Observer] = ()
    window_ended: Callable[[bool], None] = lambda pass_over: None
    tolerant: bool = False
    halve_after: int | None = None

    def run(self, lanes: Sequence[Lane]) -> None:
        """Run all to their ends.

        Raises
        ------
        SourceChangedError : the source was rewritten meanwhile
        """
        while True:
            waiting = [(lane, window) for lane in lanes if (window := lane.window(self.refs))]
            if not waiting:
                return
            window = waiting[0][1]
            self._visit([lane for lane, own in waiting if _same(own, window)], window)
            if self.halve_after is not None:
                for group in dict.fromkeys(lane.group for lane in lanes):
                    halve([lane for lane in lanes if lane.group == group], self.halve_after)

    def _visit(self, lanes: Sequence[Lane], window: Sequence[ChunkRef]) -> None:
        rows = sum(ref.rows for ref in window)
        for lane in lanes:
            lane.sharing = len(lanes)
            for observer in (*lane.observers, *(self.shared if lane is lanes[0] else ())):
                observer.window_started(lane.state, window)
        found = self._statistics(lanes, window, rows)
        over = [lane.visits(rows, self.source.n_rows) for lane in lanes]
        if any(over):
            require_unchanged(self.source, self.fingerprint)
        before = lanes[0].state
        for lane, stats, pass_over in zip(lanes, found, over, strict=True):
            self._move(lane, stats, pass_over)
        for observer in self.shared:
            observer.window_ended(before, lanes[0].state, over[0])
        self.window_ended(any(over))

    def _statistics(self, lanes: Sequence[Lane], window: Sequence[ChunkRef], rows: int) -> list[Stats | None]:
        """The statistics of each run; None of one that failed."""
        tasks = [lane.task(self.source, rows) for lane in lanes]
        if len(tasks) == 1:
            return [self._alone(lanes[0], tasks[0], window)]
        try:
            joint = JointEStep(tuple(tasks)).ready(self.executor, window)
            total = self.executor.reduce(joint, window, self._teller(lanes))
        except OF_A_PROPOSAL as error:
            if not (self.tolerant and isinstance(error, OF_ONE_RUN)) and not any(lane.proposes for lane in lanes):
                raise
            # Which of them it was, they tell one by one.
            return [self._alone(lane, task, window) for lane, task in zip(lanes, tasks, strict=True)]
        return [total[str(i)] for i in range(len(tasks))]

    def _alone(self, lane: Lane, task: EStep, window: Sequence[ChunkRef]) -> Stats | None:
        try:
            return self.executor.reduce(task.ready(self.executor, window), window, self._teller([lane]))
        except OF_A_PROPOSAL as error:
            if lane.withdraws():
                return None
            if not isinstance(error, OF_ONE_RUN):
                raise
            self._fail(lane, error)
            return None

    def _move(self, lane: Lane, stats: Stats | None, pass_over: bool) -> None:
        if stats is None:
            return
        try:
            lane.moved(stats, pass_over)
        except OF_ONE_RUN as error:
            self._fail(lane, error)

    def _fail(self, lane: Lane, error: StreamemError) -> None:
        if not self.tolerant:
            raise error
        lane.failed = error

    def _teller(self, lanes: Sequence[Lane]) -> Callable[[ChunkDone], None]:
        observers = [*self.shared, *(observer for lane in lanes for observer in lane.observers)]

        def tell(done: ChunkDone) -> None:
            for observer in observers:
                observer.chunk_done(done)

        return tell


def halve(lanes: Sequence[Lane], passes: int) -> None:
    """Give up the worse half of those that go on, once all of them have done a multiple of `passes` passes.

    Runs that have ended stay in the field: what goes on has to be better than the middle of all.
    """
    field = [lane for lane in lanes if not (lane.stopped or lane.failed)]
    running = [lane for lane in field if not lane.state.finished]
    if len(field) < 2 or not running or len({lane.passes for lane in running}) > 1:
        return
    done = running[0].passes
    if not done or done % passes:
        return
    ranked = sorted(range(len(field)), key=lambda i: (-field[i].state.last_known, i))
    for i in ranked[(len(field) + 1) // 2 :]:
        field[i].stopped = not field[i].state.finished


def _same(one: Sequence[ChunkRef], other: Sequence[ChunkRef]) -> bool:
    """Whether two windows are the same rows in the same order."""
    return one is other or (len(one) == len(other) and all(map(_same_rows, one, other)))


def _same_rows(one: ChunkRef, other: ChunkRef) -> bool:
    if one is other:
        return True
    if one.selection is None or one.selection != other.selection or len(one.made_of) != len(other.made_of):
        return False
    return all(a is b for a, b in zip(one.made_of, other.made_of, strict=True))
