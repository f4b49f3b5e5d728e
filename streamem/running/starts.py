"""From a model, a source and settings to a fitted state: budget, sample, starts, checkpoints, report."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from streamem.core.archive_reading import is_there, place_of
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ImpossibleValueError, MemoryLimitError
from streamem.core.file_locks import OnlyWriter
from streamem.core.ports import Algorithm, ChunkRef, Executor, Limits, Model, Source, Variant
from streamem.core.small_work import in_numpy, small_work
from streamem.core.state import State
from streamem.initialization import drawn_rows, located_in_source, sample_rows
from streamem.running.checkpoint import Checkpoint, Position
from streamem.running.engines import Engine
from streamem.running.fit import require_unchanged
from streamem.running.loop import OF_A_PROPOSAL, Lane, Race
from streamem.running.memory import Projection, project, return_free_memory, shared_bytes
from streamem.running.objective import objective
from streamem.running.progress import Progress
from streamem.running.reached import Reached, reached_by
from streamem.running.reads import Reads
from streamem.running.report import FitReport, Recorder

SAMPLE_COPIES = 3
"""The pieces of the sample are joined, k-means centres a copy of it, and the allocator returns neither at once."""


@dataclass(frozen=True)
class Job:
    """One call of fit.

    Attributes
    ----------
    make_start : parameters from a sample, a random generator, and reads of all chunks
    least_rows : enough to estimate every component
    max_iter : most passes
    warm : from the algorithm, the state of an earlier call to go on from, instead of a new start
    key : what identifies the run in a checkpoint, besides the data and the plan
    halve_after : passes after which the worse half of the starts is given up, again and again; None for never
    starts_from_rows : whether a start needs a row for each component
    has_prior : whether starts are compared by what EM maximizes instead of the log-likelihood alone
    tol : nats per unit of weight within which starts have reached the same value
    """

    model: Model
    source: Source
    algorithm: Variant
    make_start: Callable[[Chunk, np.random.RandomState, Reads], Params]
    n_components: int
    n_init: int
    rng: np.random.RandomState
    engine: Engine
    least_rows: int
    max_iter: int
    warm: Callable[[Algorithm], State] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    key: Mapping[str, Any] = field(default_factory=dict)
    halve_after: int | None = None
    has_prior: bool = False
    starts_from_rows: bool = True
    tol: float = 0.0

    @property
    def fewest_rows(self) -> int:
        """Rows without which there is no start."""
        return self.n_components if self.starts_from_rows else 1

    @cached_property
    def products_a_row(self) -> float:
        """What a row costs in an E-step, in products."""
        return self.model.products_a_row(self.source.schema.n_features)


@dataclass(frozen=True)
class Outcome:
    """The best state of all starts, and the report of all passes."""

    state: State
    report: FitReport


def fit_job(job: Job) -> Outcome:
    """Run all starts and return the best.

    Raises
    ------
    DataError : too few rows
    MemoryLimitError : the projection exceeds the limit
    WriterConflictError : another fit saves to the same checkpoint
    """
    refs = job.source.chunks()
    require_rows(job.source, job.fewest_rows, job.model.estimates)
    algorithm, opened = planned(job, refs)
    together, projection = _project(job, refs, opened)
    report = _new_report(job, refs, projection)
    with ExitStack() as closing:
        if job.checkpoint is not None and isinstance(where := place_of(job.checkpoint), Path):
            closing.enter_context(OnlyWriter(where, "fit"))
        fingerprint = job.source.fingerprint()
        checkpoint = _checkpoint(job, refs, report, fingerprint)
        executor = closing.enter_context(job.engine.executor(job.source, projection))
        starts = _Starts(job, algorithm, refs, executor, report, checkpoint, together, fingerprint)
        try:
            state = starts.run()
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(starts.how_to_resume())
            raise
    report.passes.sort(key=lambda record: record.start)  # starts that share reads take turns
    if arithmetic := _arithmetic(job, state.params, job.source.n_rows):
        report.setting["arithmetic"] = arithmetic
    return Outcome(state, report)


def _arithmetic(job: Job, params: Params, rows: int) -> str:
    """Which arithmetic an E-step over so many rows runs at given parameters, if the model can say it."""
    with small_work(rows * job.products_a_row):
        words = job.model.arithmetic(job.model.for_pass_of(params, rows), job.source.schema.dtype)
        return f"{words}, in NumPy" if words and in_numpy() else words


def planned(job: Job, refs: Sequence[ChunkRef]) -> tuple[Algorithm, int]:
    """The algorithm for this plan, and the bytes that it keeps in memory besides."""
    held = job.model.statistics_bytes(job.source.schema.n_features)
    limits = Limits(job.engine.budget.sample_bytes, job.least_rows, held, job.max_iter)
    return job.algorithm.planned(refs, limits), job.algorithm.open_bytes(refs, limits)


def require_rows(source: Source, n_components: int, estimates: str) -> None:
    """Refuse sources with fewer than two rows or fewer rows than components."""
    n = source.n_rows
    if n < 2:
        raise DataError(
            f"{source.schema.origin} has {n} sample(s) (rows) while a minimum of 2 is required to estimate {estimates}"
        )
    if n < n_components:
        raise DataError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {n}; "
            "use fewer components or more rows"
        )


def sample_size(job: Job) -> int:
    """Rows of the starting sample: its values and two responsibilities arrays within the budget."""
    row = 8 * (job.source.schema.n_features + 2 * job.n_components)
    return min(job.source.n_rows, max(job.n_components, 2, job.engine.budget.sample_bytes // row))


def _project(job: Job, refs: Sequence[ChunkRef], opened: int) -> tuple[int, Projection]:
    """How many starts may share their reads, without fewer threads than one would have; and what they hold."""
    alone = _project_some(job, refs, opened, 1)
    together = 1 if job.warm is not None else job.n_init
    while together > 1:
        with suppress(MemoryLimitError):
            shared = _project_some(job, refs, opened, together)
            if shared.n_threads == alone.n_threads:
                return together, shared
        together = (together + 1) // 2
    return 1, alone


def _project_some(job: Job, refs: Sequence[ChunkRef], opened: int, starts: int) -> Projection:
    held = starts * job.model.statistics_bytes(job.source.schema.n_features)
    return job.engine.project(job.source, refs, held, sample=_sample_bytes(job), opened=starts * opened, again=True)


def _sample_bytes(job: Job) -> int:
    row = 8 * (job.source.schema.n_features + 2 * job.n_components)
    return SAMPLE_COPIES * row * sample_size(job)


def fits_limit(job: Job, refs: Sequence[ChunkRef]) -> bool:
    """Whether a start with one chunk at a time fits the limit that the user set, whatever the machine has."""
    budget, (_, opened) = job.engine.budget, planned(job, refs)
    if budget.explicit is None:
        return True
    held = job.model.statistics_bytes(job.source.schema.n_features)
    opened += shared_bytes(refs, 1)
    least = project(refs, 1, job.engine.workspace, held, sample=_sample_bytes(job), opened=opened)
    return replace(least, in_flight=1, ahead=0).total <= budget.explicit


def _new_report(job: Job, refs: Sequence[ChunkRef], projection: Projection) -> FitReport:
    return FitReport.of(job.source, len(refs), job.engine.describe(projection))


def _checkpoint(job: Job, refs: Sequence[ChunkRef], report: FitReport, fingerprint: str) -> Checkpoint | None:
    if job.checkpoint is None:
        return None
    plan = np.array([ref.rows for ref in refs], dtype=np.int64)
    key = {
        **job.key,
        "data": fingerprint,
        "sample": sample_size(job),
        "plan": f"{len(refs)} chunks, {zlib.crc32(plan.tobytes()):08x}",
    }
    return Checkpoint(job.checkpoint, key, report)


class _Starts:
    """Runs the starts of a job in order, from a checkpoint if there is one."""

    def __init__(
        self,
        job: Job,
        algorithm: Algorithm,
        refs: Sequence[ChunkRef],
        executor: Executor,
        report: FitReport,
        checkpoint: Checkpoint | None,
        together: int,
        fingerprint: str,
    ) -> None:
        self._together = together
        self._job, self._refs, self._executor, self._checkpoint = job, refs, executor, checkpoint
        self._algorithm = algorithm
        self._warm = None if job.warm is None else job.warm(algorithm)
        self._report, self._arithmetic = report, ""
        told = job.engine.what, job.engine.verbose, job.source.n_rows
        self._progress = Progress(*told, arithmetic=lambda: self._arithmetic, retried=report.retried)
        self._rng_before: dict[str, Any] = job.rng.get_state(legacy=False)
        self._sample: Chunk | None = None
        self._fingerprint = fingerprint

    def run(self) -> State:
        """The best final state: the highest log-likelihood, or objective, the earlier start if equal."""
        position = self._checkpoint.restore(self._faults) if self._checkpoint else None
        if position is not None and self._warm is not None and not _goes_on(position, self._warm):
            position = None  # the warm start is ahead of what an earlier call left
        if position is not None:
            self._rng_before = position.rng_before
            position = replace(position, states=tuple(map(self._algorithm.reopen, position.states)))
        else:
            position = self._begin(0, None, ())
        while True:
            best, ended = position.best, position.ended
            for final in self._finish(position):
                best, ended = better(self._job, best, final), (*ended, height(self._job, final))
            following = position.start + len(position.states)
            if following >= self._job.n_init:
                assert best is not None
                self._report.starts = counted(self._job, ended)
                return best
            self._job.rng.set_state(position.rng_after)
            position = self._begin(following, best, ended)

    def _faults(self, params: Params) -> list[str]:
        """What contradicts itself in parameters that were read from a checkpoint."""
        model, job = self._job.model, self._job
        return model.faults(params, job.n_components, job.source.schema.n_features)

    def _begin(self, start: int, best: State | None, ended: tuple[float, ...]) -> Position:
        job = self._job
        count = min(self._together, job.n_init - start)
        states = (
            [self._warm]
            if self._warm is not None
            else [self._algorithm.start(self._started(self._rows())) for _ in range(count)]
        )
        after = job.rng.get_state(legacy=False)
        if start + count >= job.n_init:
            self._sample = None
        return_free_memory()
        fresh = (0,) * len(states), (False,) * len(states)
        return Position(start, tuple(states), *fresh, best, self._rng_before, after, ended)

    def _started(self, sample: Chunk) -> Params:
        """The first parameters.

        Raises
        ------
        ImpossibleValueError : a value that the family cannot emit, named by chunk, row and column
        """
        job = self._job
        try:
            return job.make_start(sample, job.rng, self._reads())
        except ImpossibleValueError as error:
            as_then = np.random.RandomState(0)
            as_then.set_state(self._rng_before)
            picks = drawn_rows(job.source.n_rows, sample_size(job), as_then)
            raise located_in_source(error, sample, picks, self._refs, job.source.schema.names) from error

    def _finish(self, position: Position) -> list[State]:
        """The final states of starts that were not given up."""
        lanes = [self._lane(position.start + i, state) for i, state in enumerate(position.states)]
        for lane, passes, stopped in zip(lanes, position.passes, position.stopped, strict=True):
            lane.passes, lane.stopped = passes, stopped

        def window_ended(pass_over: bool) -> None:
            if self._checkpoint is not None:
                states = tuple(lane.state for lane in lanes)
                passes, stopped = tuple(lane.passes for lane in lanes), tuple(lane.stopped for lane in lanes)
                self._checkpoint.moved(states, passes, stopped, pass_over)

        if self._checkpoint is not None:
            self._checkpoint.place(position)
        job = self._job
        race = Race(
            job.source,
            self._refs,
            self._executor,
            self._fingerprint,
            shared=[self._progress],
            window_ended=window_ended,
            halve_after=job.halve_after,
        )
        try:
            race.run(lanes)
        finally:
            self._progress.end()
        return [lane.state for lane in lanes if not lane.stopped]

    def _lane(self, start: int, state: State) -> Lane:
        job = self._job
        lane = Lane(job.model, self._algorithm, state)
        kind = self._algorithm.pass_kind
        told = self._report, job.model.degenerate, self._explained, start, lambda: lane.sharing, kind
        lane.observers = [Recorder(*told)]
        return lane

    def _explained(self, params: Params, rows: int) -> str:
        with suppress(*OF_A_PROPOSAL):  # of parameters that are a proposal only, the pass itself will tell
            self._arithmetic = _arithmetic(self._job, params, rows)
        return self._arithmetic

    def _reads(self) -> Reads:
        """How a start reads all chunks."""
        job = self._job
        names, missing = job.source.schema.names, job.model.missing
        return Reads(self._refs, self._executor, names, missing, self._report, self._progress, job.engine.what)

    def _rows(self) -> Chunk:
        """The starting sample, drawn once and the same after a resume."""
        if self._sample is None:
            job = self._job
            now = job.rng.get_state(legacy=False)
            resumed = not _same_rng(now, self._rng_before)
            if resumed:
                job.rng.set_state(self._rng_before)
            self._progress.begin(job.source.n_rows, f"{job.engine.what}, sampling")
            self._sample = sample_rows(
                self._refs,
                job.source.n_rows,
                sample_size(job),
                self._executor,
                job.rng,
                job.source.schema.names,
                self._progress.chunk_done,
                job.model.missing,
                job.source.offsets,
            )
            self._progress.end()
            return_free_memory()  # of what decoded all rows, before the start is made of some
            require_unchanged(job.source, self._fingerprint)
            require_weight(self._sample, job.source)
            if resumed:
                job.rng.set_state(now)
        return self._sample

    def how_to_resume(self) -> str:
        """The advice for a user who has interrupted the fit."""
        if self._checkpoint is None:
            return "nothing was saved: pass checkpoint='run.npz' to make a fit resumable"
        if not is_there(self._checkpoint.path):
            return "no iteration was complete yet, so nothing was saved; the same call starts again"
        return f"the last complete iteration is in {self._checkpoint.path}; the same call goes on from there"


def better(job: Job, best: State | None, candidate: State) -> State:
    """The state that is higher: with priors by the objective, else by the log-likelihood alone."""
    if best is None or best.log_likelihood is None or candidate.log_likelihood is None:
        return candidate
    heights = best.log_likelihood, candidate.log_likelihood
    if job.has_prior:
        known = objective(job.model, best), objective(job.model, candidate)
        heights = known if None not in known else heights  # type: ignore[assignment]
    return candidate if heights[1] > heights[0] else best


def counted(job: Job, ended: Sequence[float]) -> Reached | None:
    """How many of several starts reached the best value; None of one, or where they cannot be compared.

    `ended` is what those came to that ran to their ends.
    """
    if job.n_init == 1 or not np.isfinite(ended).all():
        return None
    return reached_by(ended, job.n_init - len(ended), job.tol)


def height(job: Job, state: State) -> float:
    """The value by which a final state is compared: see `better`; NaN where nobody knows."""
    known = objective(job.model, state) if job.has_prior else None
    found = state.log_likelihood if known is None else known
    return float("nan") if found is None else found


def require_weight(sample: Chunk, source: Source) -> None:
    """Refuse a sample without any weight."""
    if sample.weight is not None and not sample.weight.any():
        raise DataError(
            f"all {sample.rows} sampled rows of {source.schema.origin} ({source.n_rows} rows) have weight zero; leave "
            "out rows of weight zero, at least one weight must be > 0"
        )


def _goes_on(position: Position, warm: State) -> bool:
    """Whether a saved position came after the warm state, in the very call that is now repeated."""
    state, known = position.states[0], len(warm.trace)
    return len(state.trace) >= known and state.trace[:known] == warm.trace and not state.finished


def _same_rng(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        np.array_equal(one["state"]["key"], other["state"]["key"])
        and one["state"]["pos"] == other["state"]["pos"]
        and one["has_gauss"] == other["has_gauss"]
        and one["gauss"] == other["gauss"]
    )
