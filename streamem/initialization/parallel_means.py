"""k-means||: centres from a few passes over all rows (Bahmani, Moseley, Vattani, Kumar & Vassilvitskii 2012).

Algorithm 2 of the paper: from one row at random, each of five passes draws every row with probability
min(1, ℓ·w·d²/φ), where d is its distance to the nearest centre so far, w its weight, φ = Σ w·d², and ℓ = 2·K; the rows
drawn, each with the weight of the rows that are nearest to it, are clustered to K centres by weighted k-means++ and
Lloyd's sweeps. Distances of rows with missing values are as in `partly_observed`.

A pass both sums φ and draws by it: a chunk keeps what could be drawn if it were alone, since its own sum is at most φ,
and whoever adds up keeps of these what the sum of all chunks draws. The drawn rows are the same as with φ known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.extremes import expected, exponent_of
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, FullFamily, Task
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite
from streamem.initialization.partly_observed import BLOCK_ROWS, Frame, PartlyObserved, lloyd, refilled, shares

Array = NDArray[Any]

ROUNDS = 5
OVERSAMPLED = 2
"""ℓ / K: as many rows a round are drawn as there are components, times this."""
BLOCK_VALUES = 2**19
"""Distances of a block: 4 MiB."""
SOFTENED = 2.0**-6
"""Share of a row's responsibility that all components take evenly in the first parameters, which only are the frame in
which all rows are summed: so that none has collapsed where the sample holds a single row of a cell."""

Mapped = Callable[[Task[Any]], Iterator[Any]]
"""Runs a task over all chunks: results in the order of the plan."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows belong to the nearest of K centres (K, d), which lie in a frame."""

    centres: Array
    frame: Frame

    def labels(self, x: Array, weight: Array | None = None) -> tuple[Array, Array]:
        """The nearest centre (n,) of rows x (n, d), and squared distances (n,)."""
        few = max(64, min(BLOCK_ROWS, BLOCK_VALUES // max(1, len(self.centres))))
        return PartlyObserved(x, weight, self.frame, few).nearest(self.centres)

    def split(self, x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
        """Responsibilities (n, K) to make first parameters of: nearly one-hot; a `Start`."""
        labels, least = self.labels(x, weight)
        labels = refilled(labels, least, k)
        return (1.0 - SOFTENED) * (labels[:, None] == np.arange(k)) + SOFTENED / k


class Drawn(NamedTuple):
    """What a chunk tells in a round.

    Attributes
    ----------
    cost : Σ w·d² of its rows
    shares : (m,) w·d² of the rows that may be drawn
    chances : (m,) uniform numbers: a row is drawn where chance · φ < ℓ · share
    rows : (m, d)
    """

    cost: float
    shares: Array
    chances: Array
    rows: Array

    def within(self, cost: float, factor: float) -> Drawn:
        """The rows that are drawn where all rows together cost so much."""
        kept = self.chances * cost < factor * self.shares
        return Drawn(self.cost, self.shares[kept], self.chances[kept], self.rows[kept])

    def beside(self, other: Drawn) -> Drawn:
        """The rows of two sets of chunks."""
        both = (np.concatenate(pair) for pair in zip(self[1:], other[1:], strict=True))
        return Drawn(self.cost + other.cost, *both)


@dataclass(frozen=True, eq=False)
class Draw:
    """The task of a round; `seed` is that of the round, `factor` is ℓ, 2^`exponent` the scale of the weights."""

    cells: Cells
    factor: float
    seed: int
    exponent: int
    names: tuple[str, ...] | None
    missing: Missing

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Drawn:
        """Rows of a chunk that may be drawn."""
        require_finite(chunk, ref, self.names, self.missing)
        least = self.cells.labels(chunk.x)[1]
        if chunk.weight is not None:
            least = least * np.ldexp(chunk.weight, -self.exponent)
        chances = np.random.default_rng([self.seed, ref.index]).random(len(least))
        whole = Drawn(float(least.sum()), least, chances, chunk.x)
        return whole.within(whole.cost, self.factor)


@dataclass(frozen=True, eq=False)
class Weigh:
    """The task that weighs candidates: the weight of the rows that are nearest to each, (c,)."""

    cells: Cells
    names: tuple[str, ...] | None
    missing: Missing

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """Weights of one chunk."""
        require_finite(chunk, ref, self.names, self.missing)
        labels, seen = self.cells.labels(chunk.x)[0], ~np.isnan(chunk.x).all(axis=1)
        weight = seen * (1.0 if chunk.weight is None else chunk.weight)
        return np.bincount(labels, weight, len(self.cells.centres))


@dataclass(frozen=True, eq=False)
class SumCells:
    """The task of the first M-step: statistics of the rows of each cell, taken at given parameters of the family."""

    cells: Cells
    family: FullFamily
    components: Any
    names: tuple[str, ...] | None
    missing: Missing

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """rows, weight (K,), and components, of one chunk."""
        require_finite(chunk, ref, self.names, self.missing)
        seen = ~np.isnan(chunk.x).all(axis=1)
        known = Chunk(chunk.x[seen], None if chunk.weight is None else chunk.weight[seen])
        with locating(chunk, ref, self.names):
            return expected(known, self._summed)

    def _summed(self, chunk: Chunk) -> Stats:
        total = self._of_block(chunk, slice(0, BLOCK_ROWS))
        for first in range(BLOCK_ROWS, chunk.rows, BLOCK_ROWS):
            total = total + self._of_block(chunk, slice(first, first + BLOCK_ROWS))
        return total

    def _of_block(self, chunk: Chunk, block: slice) -> Stats:
        x = chunk.x[block]
        resp = (self.cells.labels(x)[0][:, None] == np.arange(len(self.cells.centres))).astype(np.float64)
        if chunk.weight is not None:
            resp *= chunk.weight[block][:, None]
        return Stats(rows=len(x), weight=resp.sum(axis=0), components=self.family.stats(self.components, x, resp))


def parallel_means(
    mapped: Mapped,
    sample: Chunk,
    k: int,
    rng: np.random.RandomState,
    names: tuple[str, ...] | None,
    missing: Missing,
) -> Cells:
    """K cells of all rows, from `ROUNDS` passes and one that weighs.

    Parameters
    ----------
    mapped : runs a task over all chunks
    sample : uniformly drawn rows, which give the frame and the first row
    """
    seen = ~np.isnan(sample.x).all(axis=1)
    weight = seen * (np.ones(sample.rows) if sample.weight is None else sample.weight)
    known = PartlyObserved(sample.x, weight)
    centres = known.centre(int(rng.choice(sample.rows, p=shares(weight))))[None]
    seed = int(rng.randint(2**31))
    if k == 1:
        return Cells(centres, known.frame)
    factor, exponent = float(OVERSAMPLED * k), 0 if sample.weight is None else exponent_of(sample.weight)
    for i in range(ROUNDS):
        task = Draw(Cells(centres, known.frame), factor, seed + i, exponent, names, missing)
        centres = np.concatenate([centres, known.frame.centres(_drawn(mapped(task), factor))])
    counts = sum(mapped(Weigh(Cells(centres, known.frame), names, missing)), np.zeros(len(centres)))
    return Cells(_clustered(centres, counts, k, rng), known.frame)


def _drawn(told: Iterator[Drawn], factor: float) -> Array:
    """The rows (m, d) that a round draws; of chunks so far no more are held than these together draw."""
    held: Drawn | None = None
    for own in told:
        held = own if held is None else held.beside(own)
        held = held.within(held.cost, factor)
    assert held is not None
    return held.rows


def _clustered(candidates: Array, counts: Array, k: int, rng: np.random.RandomState) -> Array:
    """K centres (K, d) of weighted candidates (c, d); fewer candidates than K are repeated."""
    used = candidates[counts > 0]
    weight = counts[counts > 0]
    if len(used) <= k:
        return np.asarray(used[np.arange(k) % len(used)])
    rows = PartlyObserved(used, weight, Frame.of_centres(used.shape[1]))
    labels = lloyd(rows, k, rng)
    return rows.means(labels, used[:k])
