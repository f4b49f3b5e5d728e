"""Many fits of one source in shared passes: the candidates of a sweep, each with its starts."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, MemoryLimitError, StreamemError
from streamem.core.file_locks import OnlyWriter
from streamem.core.ports import Algorithm, Executor
from streamem.core.state import State
from streamem.initialization import sample_rows
from streamem.running.checkpoint import Checkpoint, Position
from streamem.running.fit import require_unchanged
from streamem.running.loop import OF_ONE_RUN, Lane, Race
from streamem.running.memory import Projection, return_free_memory
from streamem.running.progress import Progress
from streamem.running.reads import Reads
from streamem.running.report import FitReport, Recorder
from streamem.running.starts import (
    SAMPLE_COPIES,
    Job,
    Outcome,
    better,
    counted,
    height,
    planned,
    require_rows,
    require_weight,
    sample_size,
)


@dataclass(frozen=True)
class Sweep:
    """Fits of the same source, candidate by candidate.

    Attributes
    ----------
    jobs : one a candidate; all of one source
    seed : of the starting sample, which all share
    halve_after : as in `Job`, among the starts of each candidate
    checkpoint : path of an ``.npz`` file, or None
    """

    jobs: Sequence[Job]
    seed: int
    halve_after: int | None = None
    checkpoint: str | os.PathLike[str] | None = None

    def run(self) -> tuple[list[Outcome | StreamemError], Sharing]:
        """What each candidate came to, or the error that ended it; and how far they shared their reads.

        Raises
        ------
        MemoryLimitError : one fit alone exceeds the limit
        WriterConflictError : another sweep saves to the same checkpoint
        """
        runs = _Runs(self)
        with ExitStack() as closing:
            if self.checkpoint is not None:
                closing.enter_context(OnlyWriter(Path(self.checkpoint), "select"))
            first = self.jobs[0]
            executor = closing.enter_context(first.engine.executor(first.source, runs.projection))
            runs.finish(executor)
        return runs.outcomes(), runs.sharing


@dataclass(frozen=True)
class Sharing:
    """How the runs of a sweep shared their reads.

    Attributes
    ----------
    groups : of runs, each of which read the data by itself
    one_group_bytes : about the memory limit at which all of them share their reads: what the plan and the starting
        sample take grows with the limit, too
    """

    groups: int
    one_group_bytes: int


@dataclass(frozen=True)
class _Plan:
    """The algorithm of a candidate for the plan, and what one of its runs holds: statistics of a chunk, and besides."""

    algorithm: Algorithm
    held: int
    opened: int


class _Runs:
    """The runs of a sweep, from their starts to their ends."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._source = sweep, sweep.jobs[0].source
        self._refs = self._source.chunks()
        self._size = min(sample_size(job) for job in sweep.jobs)
        self._fingerprint = self._source.fingerprint()
        self._failed: dict[int, StreamemError] = {}
        self._lanes: list[Lane] = []
        self._plans = [self._plan(job) for job in sweep.jobs]
        self._rate = 0
        self._room, self.projection = self._fitting()
        setting = sweep.jobs[0].engine.describe(self.projection)
        self._reports = [FitReport.of(self._source, len(self._refs), dict(setting)) for _ in sweep.jobs]
        self._checkpoint = None if sweep.checkpoint is None else Checkpoint(sweep.checkpoint, self._key(), FitReport())

    def _plan(self, job: Job) -> _Plan:
        algorithm, opened = planned(job, self._refs)
        return _Plan(algorithm, job.model.statistics_bytes(self._source.schema.n_features), opened)

    def _key(self) -> Mapping[str, Any]:
        plan = np.array([ref.rows for ref in self._refs], dtype=np.int64)
        candidates = "; ".join(str(sorted(job.key.items())) for job in self._sweep.jobs)
        return {
            "sweep": f"{len(self._sweep.jobs)} candidates, {zlib.crc32(candidates.encode()):08x}",
            "halve_after": self._sweep.halve_after or 0,
            "seed": self._sweep.seed,
            "data": self._fingerprint,
            "sample": self._size,
            "plan": f"{len(self._refs)} chunks, {zlib.crc32(plan.tobytes()):08x}",
        }

    def _fitting(self) -> tuple[float, Projection]:
        """The bytes that runs which share their reads may hold together, and the projection of those that hold most.

        Reads are shared by as many runs as fit without fewer threads than one would have.
        """
        runs = [place for place, job in enumerate(self._sweep.jobs) for _ in range(job.n_init)]
        alone = self._project([max(runs, key=lambda place: self._plans[place].held)])
        with suppress(MemoryLimitError):
            shared = self._project(runs)
            if shared.n_threads == alone.n_threads:
                return math.inf, shared
        base = self._least(alone.n_threads)
        room = float(self._sweep.jobs[0].engine.budget.limit_bytes - base)
        while len(groups := self._packed(runs, room)) < len(runs):
            heaviest = max(groups, key=self._weight)
            with suppress(MemoryLimitError):
                shared = self._project(heaviest)
                if shared.n_threads == alone.n_threads:
                    return self._weight(heaviest), shared
            room *= 0.9
        return 0.0, alone

    def _least(self, n_threads: int) -> int:
        """What the passes hold besides what belongs to the runs, with as few chunks in flight as occupy the threads."""
        empty = replace(self._project([]), n_threads=n_threads, in_flight=n_threads, kept=0)
        self._rate = n_threads + empty.levels
        return empty.total

    def _weight(self, places: Sequence[int]) -> float:
        """Bytes that runs of these candidates hold."""
        return float(sum(self._rate * self._plans[place].held + self._plans[place].opened for place in places))

    def _packed(self, places: Sequence[int], room: float) -> list[list[int]]:
        return packed(places, self._weight, room)

    def _project(self, places: Sequence[int]) -> Projection:
        """Memory of runs of these candidates."""
        jobs = self._sweep.jobs
        row = 8 * (self._source.schema.n_features + 2 * max(job.n_components for job in jobs))
        largest = max(jobs, key=lambda job: job.engine.workspace)
        return largest.engine.project(
            self._source,
            self._refs,
            sum(self._plans[place].held for place in places),
            sample=SAMPLE_COPIES * row * self._size,
            opened=sum(self._plans[place].opened for place in places),
            again=True,
        )

    @property
    def sharing(self) -> Sharing:
        """How many groups read the data by themselves, and what limit would make them one."""
        runs = [place for place, job in enumerate(self._sweep.jobs) for _ in range(job.n_init)]
        if self._room == math.inf:
            return Sharing(1, self.projection.total - self.projection.kept)
        needed = self._least(self.projection.n_threads) + self._weight(runs)
        return Sharing(len(self._packed(runs, self._room)), round(needed))

    def finish(self, executor: Executor) -> None:
        """Run all, as many at once as memory allows."""
        first = self._sweep.jobs[0].engine
        progress = Progress(first.what, first.verbose, self._source.n_rows)
        try:
            self._begin(executor, progress)
            self._restore()
            waiting = [lane for lane in self._lanes if lane.window(self._refs)]
            for lanes in self._grouped(waiting):
                race = Race(
                    self._source,
                    self._refs,
                    executor,
                    self._fingerprint,
                    shared=[progress],
                    window_ended=self._save,
                    tolerant=True,
                    halve_after=self._sweep.halve_after,
                )
                race.run(lanes)
        finally:
            progress.end()

    def _grouped(self, lanes: Sequence[Lane]) -> list[list[Lane]]:
        """Lanes that share their reads."""
        waiting: dict[int, list[Lane]] = {}
        for lane in lanes:
            waiting.setdefault(lane.group, []).append(lane)
        places = [lane.group for lane in lanes]
        groups = [places] if self._room == math.inf else self._packed(places, self._room)
        return [[waiting[place].pop(0) for place in group] for group in groups]

    def _begin(self, executor: Executor, progress: Progress) -> None:
        """The starts of all candidates, from one sample; candidates that cannot begin have failed."""
        sample = self._sample(executor, progress)
        for place, (job, plan) in enumerate(zip(self._sweep.jobs, self._plans, strict=True)):
            try:
                require_rows(self._source, job.fewest_rows, job.model.estimates)
                reads = self._reads(place, executor, progress)
                states = [plan.algorithm.start(job.make_start(sample, job.rng, reads)) for _ in range(job.n_init)]
            except (DataError, *OF_ONE_RUN) as error:
                self._failed[place] = error
                continue
            self._lanes.extend(
                self._lane(place, job, plan.algorithm, start, state) for start, state in enumerate(states)
            )
        return_free_memory()

    def _sample(self, executor: Executor, progress: Progress) -> Chunk:
        job, rows = self._sweep.jobs[0], self._source.n_rows
        progress.begin(rows, f"{job.engine.what}, sampling")
        rng = np.random.RandomState(self._sweep.seed)
        names, told = self._source.schema.names, progress.chunk_done
        missing, offsets = job.model.missing, self._source.offsets
        sample = sample_rows(self._refs, rows, self._size, executor, rng, names, told, missing, offsets)
        progress.end()
        require_unchanged(self._source, self._fingerprint)
        require_weight(sample, self._source)
        return sample

    def _reads(self, place: int, executor: Executor, progress: Progress) -> Reads:
        """How a start of a candidate reads all chunks."""
        job, names = self._sweep.jobs[place], self._source.schema.names
        return Reads(self._refs, executor, names, job.model.missing, self._reports[place], progress, job.engine.what)

    def _lane(self, place: int, job: Job, algorithm: Algorithm, start: int, state: State) -> Lane:
        lane = Lane(job.model, algorithm, state, group=place)
        sharing = lambda: lane.sharing  # noqa: E731
        told = self._reports[place], job.model.degenerate, None, start, sharing, algorithm.pass_kind
        lane.observers = [Recorder(*told)]
        return lane

    def _restore(self) -> None:
        position = self._checkpoint.restore(lambda params: []) if self._checkpoint else None
        if position is None or len(position.states) != len(self._lanes):
            return
        for lane, state, passes, stopped in zip(
            self._lanes, position.states, position.passes, position.stopped, strict=True
        ):
            lane.state, lane.passes, lane.stopped = lane.algorithm.reopen(state), passes, stopped

    def _save(self, pass_over: bool) -> None:
        if self._checkpoint is None or not pass_over:
            return
        rng: dict[str, Any] = np.random.RandomState(self._sweep.seed).get_state(legacy=False)
        states = tuple(lane.state for lane in self._lanes)
        passes, stopped = tuple(lane.passes for lane in self._lanes), tuple(lane.stopped for lane in self._lanes)
        self._checkpoint.place(Position(0, states, passes, stopped, None, rng, rng))

    def outcomes(self) -> list[Outcome | StreamemError]:
        """The best start of each candidate, or why there is none."""
        return [self._outcome(place) for place in range(len(self._sweep.jobs))]

    def _outcome(self, place: int) -> Outcome | StreamemError:
        lanes = [lane for lane in self._lanes if lane.group == place]
        ended = [lane for lane in lanes if lane.state.finished and not lane.stopped]
        if not ended:
            return self._failed.get(place) or next(lane.failed for lane in lanes if lane.failed is not None)
        job, best = self._sweep.jobs[place], ended[0].state
        for lane in ended[1:]:
            best = better(job, best, lane.state)
        report = replace(self._reports[place])
        report.starts = counted(job, [height(job, lane.state) for lane in ended])
        report.passes.sort(key=lambda record: record.start)
        return Outcome(best, report)


def packed(places: Sequence[int], weight_of: Callable[[Sequence[int]], float], room: float) -> list[list[int]]:
    """Runs that share their reads, by their candidates: into the first group with room for them, large ones first.

    The starts of a candidate stay together where they fit.
    """
    together: dict[int, list[int]] = {}
    for place in places:
        together.setdefault(place, []).append(place)
    parts: list[list[int]] = []
    for own in together.values():
        parts += [own] if weight_of(own) <= room else [[place] for place in own]
    groups: list[list[int]] = []
    left: list[float] = []
    for part in sorted(parts, key=weight_of, reverse=True):
        weight = weight_of(part)
        fits = next((i for i, free in enumerate(left) if weight <= free), None)
        if fits is None:
            groups.append(list(part))
            left.append(room - weight)
        else:
            groups[fits] += part
            left[fits] -= weight
    return [sorted(group) for group in groups]


def reads(reports: Sequence[FitReport]) -> tuple[float, float]:
    """How many reads of the data passes took, and their bytes, where several shared one."""
    records = [record for report in reports for record in report.passes]
    return sum(1 / record.shared for record in records), sum(record.nbytes / record.shared for record in records)
