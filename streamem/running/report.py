"""What a fit did, pass by pass: the same numbers for people, files and benches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, groupby
from time import perf_counter
from typing import Any

from streamem.core import html
from streamem.core.arrays import Params
from streamem.core.ports import REJECTED, ChunkDone, ChunkRef, Source
from streamem.core.redaction import redacted
from streamem.core.state import State
from streamem.running.memory import format_bytes, peak_bytes, return_free_memory
from streamem.running.reached import Reached, doubts
from streamem.sources.options import MOST_CHUNK_BYTES

SETTINGS = (
    *("workers", "threads", "chunks in flight", "chunks kept", "projected", "limit", "arithmetic", "processor"),
    "algorithm",
)
"""What a report says of how a fit ran, in the order in which it says it."""

PASS_HEAD = ("start", "iteration", "log-likelihood/row", "seconds", "rows/s", "waiting", "peak memory")
SHOWN_PASSES = 10
"""Passes at the beginning and at the end that a table in a notebook shows."""

TOMBSTONES = "tombstones"
RETRIED = "retried"

OPTIONAL = "objective", "certificate", "starts", "short_runs", "start_passes", "start_exchanges", "n_patterns"
"""What a report holds where there is something to tell."""


@dataclass(frozen=True)
class PassRecord:
    """One pass over the data.

    Attributes
    ----------
    start : which of the `n_init` starts, from 0
    iteration : M-steps done before this pass
    log_likelihood : of the parameters that entered, in nats per unit of weight
    seconds : wall time
    rows, nbytes : read, as held in memory
    wait_s : time that compute threads waited for reads, summed over threads
    compute_s : time that they computed, summed over threads
    peak_memory_bytes : the process's largest resident memory so far
    arithmetic : which one its E-steps ran, in words; in several windows that of the first
    shared : how many starts shared the read: `seconds`, `nbytes` and the like are of all of these
    kind : "plain", "extrapolated", "rejected" (its parameters were turned down: `log_likelihood` is that of the best
        ones known), "stepwise", …; "" where the algorithm does not say
    """

    start: int
    iteration: int
    log_likelihood: float
    seconds: float
    rows: int
    nbytes: int
    wait_s: float
    compute_s: float
    peak_memory_bytes: int
    arithmetic: str = ""
    shared: int = 1
    kind: str = ""


@dataclass
class FitReport:
    """The record of a fit.

    Attributes
    ----------
    origin : the source in words
    n_rows, n_features, n_chunks : its size and plan
    n_patterns : different rows, or rows with the mean and covariance of all, over which the passes went with their
        weights instead of over rows; None of other fits
    setting : how it ran: threads, chunks in flight, bytes of kept chunks, projected bytes, limit, arithmetic,
        and on threads the processor with the width of vectors in compiled code
    passes : one record a pass
    events : what was done to components that degenerated, by kind, and in how many passes; how many messages
        without a value (tombstones) of streams were passed over, and how many requests of stores were made again
    objective : of a fit with priors, what EM maximized: log-likelihood less what the M-step subtracts, in nats per unit
        of weight, at the parameters that were returned; None without priors
    certificate : by how much any parameters can be better than those that were returned, in nats per unit of weight;
        None where nobody can tell
    starts : of several starts, how many reached the best value; None of one
    short_runs : of a start that is the best of short runs of EM on a sample, how many of those that were compared last
        reached the best value on it; None without such runs, or of several starts
    start_passes : passes over the data that the starts took, besides the sample; not among `passes`
    start_exchanges : how often the starts merged two components and split another in their place, on the sample
    """

    origin: str = ""
    n_rows: int = 0
    n_features: int = 0
    n_chunks: int = 0
    setting: dict[str, Any] = field(default_factory=dict)
    passes: list[PassRecord] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    objective: float | None = None
    certificate: float | None = None
    starts: Reached | None = None
    short_runs: Reached | None = None
    start_passes: int = 0
    start_exchanges: int = 0
    n_patterns: int | None = None

    @classmethod
    def of(cls, source: Source, n_chunks: int, setting: dict[str, Any]) -> FitReport:
        """A report without passes yet of a source, whose rows may stand for more of them."""
        schema, rows, patterns_of = source.schema, source.n_rows, getattr(source, "patterns_of", None)
        if patterns_of is None:
            return cls(schema.origin, rows, schema.n_features, n_chunks, setting)
        return cls(schema.origin, patterns_of, schema.n_features, n_chunks, setting, n_patterns=rows)

    def retried(self, requests: int) -> None:
        """Count requests of a store that were made again."""
        self.events[RETRIED] = self.events.get(RETRIED, 0) + requests

    def __post_init__(self) -> None:
        self.origin = redacted(self.origin)  # that of a file of an earlier version, too

    def to_dict(self, last: int = 100_000) -> dict[str, Any]:
        """The report as plain JSON values, with the `last` passes."""
        told = asdict(replace(self, passes=self.passes[-last:]))
        for name in OPTIONAL:
            if told[name] == getattr(FitReport, name):  # as earlier versions write it, and read it
                del told[name]
        return told

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitReport:
        """The inverse of `to_dict`."""
        passes = [PassRecord(**record) for record in values["passes"]]
        counted = {name: Reached.from_dict(values[name]) for name in ("starts", "short_runs") if values.get(name)}
        return cls(**{**values, "passes": passes, **counted})

    @property
    def doubts(self) -> str:
        """Why the fit may have missed a better maximum, in words; "" where no start says so."""
        return doubts(self.starts, self.short_runs)

    def describe(self) -> str:
        """The report as text for people, as ``print(report)`` shows it."""
        return str(self)

    def _repr_html_(self) -> str:
        """The report for notebooks: what ran, a table of passes with bars, and what happened to components."""
        size = f"{self.n_rows:,} rows × {self.n_features} features"
        told = ", ".join(f"{name} {self.setting[name]}" for name in SETTINGS if name in self.setting)
        notes = [*_changes(self.passes), *_kinds(self.passes), *_reads(self.passes), *events_in_words(self.events)]
        return "".join(
            [
                html.paragraph(f"{self.origin}: {size}"),
                html.paragraph(told) if told and self.passes else "",
                html.table(PASS_HEAD, _pass_rows(self.passes)) if self.passes else "",
                *map(html.paragraph, [*notes, *self._conclusions()]),
            ]
        )

    def _conclusions(self) -> list[str]:
        """What the starts took and how many came to the best value, and what is known of the end."""
        lines = [f"the start took {self.start_passes} passes over the data besides"] if self.start_passes else []
        if self.start_exchanges:
            times = "once" if self.start_exchanges == 1 else f"{self.start_exchanges} times"
            lines.append(f"the start merged two components and split another {times}")
        counted = (self.starts, "starts"), (self.short_runs, "short runs on the sample")
        lines += [told.words(what) for told, what in counted if told is not None]
        if self.objective is not None:
            lines.append(f"with the prior {self.objective:.9f} nats a row; log-likelihoods are without it")
        if self.certificate is not None:
            lines.append(f"certificate (KKT): no weights are better by more than {self.certificate:.3g} nats a row")
        return lines

    def __str__(self) -> str:
        """A table for people."""
        chunks = f"{self.n_chunks:,} chunk{'' if self.n_chunks == 1 else 's'}"
        if not self.passes:  # mini-batches are no passes
            return "\n".join(
                [f"{self.origin}: {self.n_rows:,} rows × {self.n_features} features", *events_in_words(self.events)]
            )
        head = [
            f"{self.origin}: {self.n_rows:,} rows × {self.n_features} features in {chunks}",
            ", ".join(f"{name} {self.setting[name]}" for name in SETTINGS if name in self.setting),
            "",
            " start  iter   log-likelihood/row  seconds      rows/s     bytes/s  waiting  peak memory",
        ]
        lines = [*map(_line, self.passes), *_changes(self.passes), *_kinds(self.passes)]
        lines += [*_reads(self.passes), *events_in_words(self.events), *self._conclusions()]
        return "\n".join([*head, *lines])


def _pass_rows(passes: Sequence[PassRecord]) -> list[list[html.Cell]]:
    """A row a pass, of many the first and the last."""
    slowest = max(record.seconds for record in passes) or 1.0
    shown = [(i, record) for i, record in enumerate(passes) if i < SHOWN_PASSES or i >= len(passes) - SHOWN_PASSES]
    rows: list[list[html.Cell]] = []
    for i, record in shown:
        if i == len(passes) - SHOWN_PASSES and len(passes) > 2 * SHOWN_PASSES:
            rows.append([f"… {len(passes) - 2 * SHOWN_PASSES:,} more", *[""] * (len(PASS_HEAD) - 1)])
        busy = max(record.wait_s + record.compute_s, 1e-9)
        rows.append(
            [
                f"{record.start}",
                f"{record.iteration}",
                f"{record.log_likelihood:.9f}",
                html.Bar(record.seconds / slowest, _shown_seconds(record.seconds)),
                f"{record.rows / max(record.seconds, 1e-9):,.0f}",
                f"{record.wait_s / busy:.0%}",
                format_bytes(record.peak_memory_bytes),
            ]
        )
    return rows


def _shown_seconds(seconds: float) -> str:
    """Three digits, down to microseconds: the first pass may compile, and the others take a thousandth of its time."""
    return f"{seconds:.{6 if seconds < 1e-4 else max(2, 2 - math.floor(math.log10(seconds)))}f}"


def _line(record: PassRecord) -> str:
    seconds = max(record.seconds, 1e-9)
    busy = max(record.wait_s + record.compute_s, 1e-9)
    return (
        f"{record.start:6d}{record.iteration:6d}{record.log_likelihood:21.9f}{_shown_seconds(record.seconds):>9}"
        f"{record.rows / seconds:12,.0f}{format_bytes(record.nbytes / seconds):>12}{record.wait_s / busy:9.0%}"
        f"{format_bytes(record.peak_memory_bytes):>13}"
    )


def _changes(passes: Sequence[PassRecord]) -> list[str]:
    """Which arithmetic ran, where that was not the same in all passes."""
    runs = [(told, len(list(run))) for told, run in groupby(record.arithmetic for record in passes)]
    stops = accumulate(count for _, count in runs)
    lines = [f"passes {stop - n + 1}–{stop} by {told}" for stop, (told, n) in zip(stops, runs, strict=True)]
    return lines if len(lines) > 1 else []


def _reads(passes: Sequence[PassRecord]) -> list[str]:
    """How many reads of the data the passes took, where several shared one."""
    if all(record.shared == 1 for record in passes):
        return []
    reads, nbytes = (sum(value(record) / record.shared for record in passes) for value in (lambda _: 1, _nbytes))
    return [f"{len(passes)} passes of several starts shared {reads:.0f} reads, {format_bytes(nbytes)} in all"]


def _nbytes(record: PassRecord) -> int:
    return record.nbytes


def _kinds(passes: Sequence[PassRecord]) -> list[str]:
    """How many passes of each kind there were, where there were several kinds."""
    counts = Counter(record.kind for record in passes if record.kind)
    return [", ".join(f"{count} {kind}" for kind, count in counts.items()) + " passes"] if len(counts) > 1 else []


def events_in_words(events: Mapping[str, int]) -> list[str]:
    """What was done to components that degenerated, and which messages were passed over."""
    meaning = {
        "empty": "component-passes without rows: mean and covariance were kept",
        TOMBSTONES: "tombstones (messages without a value) were passed over",
        RETRIED: "requests of the store failed for a while and were made again",
        "floored": "component-passes with a collapsed covariance: raised to the floor",
    }
    return [f"{count} {meaning.get(kind, kind)}" for kind, count in events.items() if count]


class Recorder:
    """The observer that fills a `FitReport`.

    Parameters
    ----------
    report : is written to
    degenerate : of a `Diagnosed` model
    explain : parameters and rows of a window → the arithmetic of its E-steps in words
    start : which of the starts it watches
    sharing : tells how many starts shared the last read
    kind : the states before and after a window → what kind of pass it was
    """

    def __init__(
        self,
        report: FitReport,
        degenerate: Any = None,
        explain: Callable[[Params, int], str] | None = None,
        start: int = 0,
        sharing: Callable[[], int] = lambda: 1,
        kind: Callable[[State, State], str] | None = None,
    ) -> None:
        self._report, self._start, self._sharing, self._kind = report, start, sharing, kind
        self._degenerate, self._explain = degenerate, explain
        self.arithmetic = ""  # of the last pass that began
        self._clear()

    def _clear(self) -> None:
        self._first: State | None = None
        self._begin = perf_counter()
        self._rows = self._nbytes = 0
        self._wait_s = self._compute_s = 0.0
        self._known: list[tuple[int, float]] = []

    def window_started(self, state: State, window: Sequence[ChunkRef]) -> None:
        """Start the clock of a pass."""
        if self._first is None:
            self._clear()
            self._first = state
            if self._explain is not None:
                self.arithmetic = self._explain(state.params, sum(ref.rows for ref in window))
        self._window_rows = sum(ref.rows for ref in window)

    def chunk_done(self, done: ChunkDone) -> None:
        """Collect."""
        if done.nbytes > MOST_CHUNK_BYTES:  # allocators keep what large chunks leave, several times over
            return_free_memory()
        self._rows, self._nbytes = self._rows + done.rows, self._nbytes + done.nbytes
        self._wait_s, self._compute_s = self._wait_s + done.wait_s, self._compute_s + done.compute_s

    def window_ended(self, before: State, after: State, pass_over: bool) -> None:
        """Write the record of a pass; of several windows it says the mean log-likelihood."""
        kind = "" if self._kind is None else self._kind(before, after)
        if after.finished or after.trace is not before.trace or kind == REJECTED:
            self._known.append((self._window_rows, after.last_known))
        if not pass_over or self._first is None:
            return
        self._report.passes.append(
            PassRecord(
                start=self._start,
                iteration=self._first.iteration,
                log_likelihood=self._mean(),
                seconds=perf_counter() - self._begin,
                rows=self._rows,
                nbytes=self._nbytes,
                wait_s=self._wait_s,
                compute_s=self._compute_s,
                peak_memory_bytes=peak_bytes(),
                arithmetic=self.arithmetic,
                shared=self._sharing(),
                kind=kind,
            )
        )
        self._first = None
        if self._degenerate is not None and not after.finished:
            for kind, components in self._degenerate(after.params).items():
                self._report.events[kind] = self._report.events.get(kind, 0) + len(components)

    def _mean(self) -> float:
        if len(self._known) == 1:
            return self._known[0][1]
        rows = sum(rows for rows, _ in self._known)
        return sum(rows * value for rows, value in self._known) / rows if rows else float("nan")
