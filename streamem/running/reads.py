"""How a start reads all chunks, where a sample of them does not tell enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streamem.core.chunk import Chunk
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Executor, Task
from streamem.core.stats import Stats
from streamem.running.progress import Progress
from streamem.running.report import FitReport
from streamem.sources import open_source


@dataclass(frozen=True, eq=False)
class Reads:
    """Passes over all chunks, which a report counts.

    Attributes
    ----------
    names : of the features, or None
    missing : what of a row may be NaN
    report : is told of every pass, and by a start what else there is to tell
    what : the words before the progress bar
    """

    refs: Sequence[ChunkRef]
    executor: Executor
    names: tuple[str, ...] | None
    missing: Missing
    report: FitReport
    progress: Progress
    what: str

    def map(self, task: Task[Any]) -> Iterator[Any]:
        """Results of a task for every chunk, in the order of the plan."""
        self._begin()
        yield from self.executor.map(task, self.refs, self.progress.chunk_done)
        self.progress.end()

    def reduce(self, task: Task[Stats]) -> Stats:
        """The sum of a task over the chunks."""
        self._begin()
        total = self.executor.reduce(task, self.refs, self.progress.chunk_done)
        self.progress.end()
        return total

    def _begin(self) -> None:
        self.report.start_passes += 1
        label = f"{self.what}, pass {self.report.start_passes} of the start"
        self.progress.begin(sum(ref.rows for ref in self.refs), label)


def of_sample(sample: Chunk) -> tuple[Callable[[Task[Any]], Iterator[Any]], Callable[[Task[Stats]], Stats]]:
    """`Reads.map` and `Reads.reduce` where there are no rows but those of a sample in memory."""
    refs = open_source(sample.x, weight=sample.weight).chunks()

    def mapped(task: Task[Any]) -> Iterator[Any]:
        return (task(ref.load(), ref) for ref in refs)

    return mapped, lambda task: sum(mapped(task), start=0)
