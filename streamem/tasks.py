"""What is done with the rows once a model is fitted: tasks for an executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.core.stats import Stats
from streamem.core.validation import require_finite

Array = NDArray[Any]


class Describe(Protocol):
    """A question to a fitted model about every row of a chunk."""

    def __call__(self, params: Params, chunk: Chunk) -> Array: ...


class LogDensity(Protocol):
    """A model that knows the log-density of rows."""

    def log_density(self, params: Params, chunk: Chunk) -> Array:
        """(n,) in nats."""


@dataclass(frozen=True, eq=False)
class Apply:
    """Answers a question about every row: labels, responsibilities, log-densities."""

    describe: Describe
    params: Params
    names: tuple[str, ...] | None
    dtype: np.dtype[Any]

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The answer for one chunk, in the dtype wanted."""
        require_finite(chunk, ref, self.names)
        return self.describe(self.params, chunk).astype(self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Score:
    """Weighted sum of log-densities."""

    model: LogDensity
    params: Params
    names: tuple[str, ...] | None

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """weight and log_likelihood of one chunk."""
        require_finite(chunk, ref, self.names)
        density = self.model.log_density(self.params, chunk)
        weight = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        return Stats(weight=weight.sum(), log_likelihood=float(weight @ density))
