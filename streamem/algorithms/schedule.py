"""Which rows each mini-batch takes: every row once a pass, in an order that follows from a seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamem.core.piece import Draw, Piece
from streamem.core.ports import ChunkRef

TASK_ROWS, MOST_TASKS = 2048, 8
"""A mini-batch is one task for so many of its rows: fewer would not pay for handing them around."""


@dataclass(frozen=True)
class _Stretch:
    """Chunks that are open together, in shares for one task each, and the mini-batches that draw from all of them."""

    number: int
    shares: tuple[tuple[int, ...], ...]
    batches: int


@dataclass(frozen=True)
class Schedule:
    """Mini-batches over shuffled chunks; a pure function of its arguments.

    Each pass visits the chunks in a new random order, `together` at a time, and each mini-batch draws from all that are
    open, each of their rows once: sorted data makes as good a model as shuffled.

    Parameters
    ----------
    chunk_rows : rows of every chunk
    batch_rows : rows of a mini-batch, about
    passes : visits of every row
    seed : of the random orders
    together : chunks that are open at once

    >>> schedule = Schedule([4, 4], batch_rows=3, passes=2, seed=0, together=2)
    >>> schedule.steps
    6
    """

    chunk_rows: Sequence[int]
    batch_rows: int
    passes: int
    seed: int
    together: int

    @cached_property
    def steps(self) -> int:
        """Mini-batches of all passes."""
        return self._ends[-1] if self._ends else 0

    def pieces(self, step: int, refs: Sequence[ChunkRef]) -> list[Piece]:
        """What a mini-batch draws from the chunks."""
        position = bisect_right(self._ends, step)
        stretch = self._stretches[position]
        batch = step - (self._ends[position] - stretch.batches)
        return [piece for chunks in stretch.shares if (piece := self._piece(stretch, chunks, batch, refs)).rows]

    def _piece(self, stretch: _Stretch, chunks: Sequence[int], batch: int, refs: Sequence[ChunkRef]) -> Piece:
        draws = []
        for chunk in chunks:
            first, stop = (b * self.chunk_rows[chunk] // stretch.batches for b in (batch, batch + 1))
            draws.append(Draw(first, stop, (self.seed, stretch.number, chunk)))
        return Piece(tuple(refs[chunk] for chunk in chunks), tuple(draws))

    @cached_property
    def _ends(self) -> list[int]:
        return np.cumsum([stretch.batches for stretch in self._stretches], dtype=np.int64).tolist()

    @cached_property
    def _stretches(self) -> list[_Stretch]:
        stretches = []
        for number in range(self.passes):
            order = np.random.default_rng((self.seed, number)).permutation(len(self.chunk_rows)).tolist()
            for first in range(0, len(order), self.together):
                chunks = order[first : first + self.together]
                rows = sum(self.chunk_rows[chunk] for chunk in chunks)
                tasks = max(1, min(MOST_TASKS, len(chunks), self.batch_rows // TASK_ROWS))
                shares = tuple(tuple(chunks[task::tasks]) for task in range(tasks))
                stretches.append(_Stretch(number, shares, max(1, round(rows / self.batch_rows))))
        return stretches
