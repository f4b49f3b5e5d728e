"""The data and the model on which suites watch algorithms: numbered rows of counts, a mixture of two Poissons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import tolerance
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Model
from streamem.core.stats import Stats

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CountedRows(ChunkRef):
    """A chunk in memory: column 0 is the number of the row, column 1 a count."""

    index: int
    start: int
    x: Array

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def nbytes(self) -> int:
        """Bytes of the chunk."""
        return int(self.x.nbytes)

    @property
    def load_nbytes(self) -> int:
        """Bytes while the chunk is loaded: its own."""
        return self.nbytes

    def load(self) -> Chunk:
        """The rows."""
        return Chunk(self.x)


def counted_rows(rng: np.random.Generator, n: int, n_chunks: int) -> list[CountedRows]:
    """A plan of chunks of unequal length, with counts of two rates."""
    counts = rng.poisson(np.where(rng.random(n) < 0.4, 2.0, 9.0)).astype(np.float64)
    x = np.column_stack([np.arange(n, dtype=np.float64), counts])
    cuts = [0, *np.sort(rng.choice(np.arange(1, n), n_chunks - 1, replace=False)).tolist(), n]
    return [CountedRows(i, first, x[first:stop]) for i, (first, stop) in enumerate(pairwise(cuts))]


class CountsMixture(Model):
    """A mixture of Poisson distributions of column 1."""

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Two rates around the mean."""
        return Params(weights=np.full(2, 0.5), rates=sample.x[:, 1].mean() * np.array([0.5, 1.5]))

    def e_step(self, params: Params, chunk: Chunk, *_: Any) -> Stats:
        """Expected numbers and sums of each component, the log-likelihood up to a constant of the data."""
        x, weight = chunk.x[:, 1], np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        joint = np.log(params.weights) + np.outer(x, np.log(params.rates)) - params.rates
        peak = joint.max(axis=1, keepdims=True)
        scaled = np.exp(joint - peak)
        density = np.log(scaled.sum(axis=1)) + peak[:, 0]
        resp = weight[:, None] * scaled / scaled.sum(axis=1, keepdims=True)
        return Stats(
            rows=chunk.rows,
            weight=weight.sum(),
            log_likelihood=weight @ density,
            rounding=tolerance(np.float64, chunk.rows) * (weight @ np.abs(density)),
            resp=resp.sum(axis=0),
            x=x @ resp,
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Shares and mean counts."""
        return Params(weights=stats.resp / stats.resp.sum(), rates=stats.x / stats.resp)

    def workspace_bytes(self, n_features: int) -> int:
        """Next to nothing."""
        return 2**10

    def statistics_bytes(self, n_features: int) -> int:
        """Two numbers a component."""
        return 32
