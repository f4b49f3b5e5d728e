"""Tasks for an executor about the rows, once a model is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Executor, PassTask, Task
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite
from streamem.models import HMM, Mixture
from streamem.sinks import ResultPart, UploadedPart

Array = NDArray[Any]


Describe = Callable[..., Array]
"""(params, chunk, boundary where there is one) → what a fitted model says of every row."""


@dataclass(frozen=True, eq=False)
class WritePart:
    """A job: the answers for the rows of a part, from the chunks that hold them, to where the part lies."""

    part: ResultPart | UploadedPart
    refs: tuple[ChunkRef, ...]

    def with_refs(self, refs: Sequence[ChunkRef]) -> WritePart:
        """This part, with other handles on its chunks."""
        return replace(self, refs=tuple(refs))

    def __call__(self, task: Task[Array], load: Callable[[ChunkRef], Chunk]) -> int:
        """Rows written."""
        return self.part.write(self._pieces(task, load))

    def _pieces(self, task: Task[Array], load: Callable[[ChunkRef], Chunk]) -> Iterator[Array]:
        first, stop = self.part.first, self.part.first + self.part.rows
        for ref in self.refs:
            values = task(load(ref), ref)
            yield values[max(0, first - ref.start) : stop - ref.start]


@dataclass(frozen=True, eq=False)
class Apply(PassTask[Array]):
    """Answers a question about every row: labels, responsibilities, log-densities; `row_nbytes` for each."""

    describe: Describe
    params: Params
    names: tuple[str, ...] | None
    dtype: np.dtype[Any]
    row_nbytes: int
    missing: Missing = Missing.NOTHING
    messages: Mapping[int, Boundary] = field(default_factory=dict)
    """What lies beyond chunks that cut a sequence, by index."""
    seed: int | None = None
    """Of the random numbers of a chunk, where `describe` takes ``rng``: they depend on the seed and the chunk alone."""

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> Apply:
        """The task with all that it needs to know of other chunks: nothing."""
        return self

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The answer for one chunk, in the dtype wanted."""
        require_finite(chunk, ref, self.names, self.missing)
        known = (self.messages[ref.index],) if ref.index in self.messages else ()
        random = {} if self.seed is None else {"rng": _generator(self.seed, ref.index)}
        with locating(chunk, ref, self.names):
            answer = self.describe(self.params, chunk, *known, **random)
        with np.errstate(over="ignore"):  # float32 has no log-density below −3e38, and rounds it to −∞
            return answer.astype(self.dtype, copy=False)


def _generator(seed: int, index: int) -> np.random.RandomState:
    """Random numbers of a chunk of its own."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, index])))


@dataclass(frozen=True, eq=False)
class Score(PassTask[Stats]):
    """Weighted sum of log-densities."""

    model: Mixture
    params: Params
    names: tuple[str, ...] | None

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """weight and log_likelihood of one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        with locating(chunk, ref, self.names):
            density = self.model.log_density(self.params, chunk)
        weight = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        if not np.isfinite(density).all():
            density = np.where(weight > 0, density, 0.0)  # no weight, no part in the sum
        return Stats(weight=weight.sum(), log_likelihood=float(weight @ density))


@dataclass(frozen=True, eq=False)
class ScoreSequences(PassTask[Stats]):
    """Weighted sum of log-likelihoods of sequences."""

    model: HMM
    params: Params
    names: tuple[str, ...] | None
    messages: Mapping[int, Boundary] = field(default_factory=dict)

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """rows, weight and log_likelihood of one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        with locating(chunk, ref, self.names):
            return self.model.log_likelihood(self.params, chunk, self.messages.get(ref.index))
