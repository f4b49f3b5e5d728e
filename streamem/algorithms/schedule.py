"""Which rows, or sequences, each mini-batch takes: every one once a pass, in an order that follows from a seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamem.core.ports import ChunkRef
from streamem.core.row_selection import RowSelection, Selection

TASK_ROWS, MOST_TASKS = 2048, 8
"""A mini-batch is one task for so many of its rows: fewer would not pay for handing them around."""


@dataclass(frozen=True)
class _Stretch:
    """Chunks that are open together, in shares for one task each, and the mini-batches that draw from all of them."""

    number: int
    shares: tuple[tuple[int, ...], ...]
    batches: int


def deal(rows: Sequence[int], batches: int) -> list[NDArray[np.int64]]:
    """Deal the rows of some chunks to mini-batches of equal size, to within one row, each chunk as evenly as can be.

    Row i of a chunk of r has its place at (i + ½)/r; in the order of places each mini-batch takes its number of rows,
    so that what it takes of a chunk is one run (the apportionment of Webster & Sainte-Laguë, which never takes back).

    Returns
    -------
    For each chunk (batches + 1,): where each mini-batch begins in it, and the end.

    >>> [bounds.tolist() for bounds in deal([4, 2], batches=3)]
    [[0, 1, 3, 4], [0, 1, 1, 2]]
    """
    places = np.concatenate([(np.arange(r) + 0.5) / r for r in rows])
    owner = np.repeat(np.arange(len(rows)), rows)[np.argsort(places, kind="stable")]
    ends = np.arange(batches + 1, dtype=np.int64) * len(owner) // batches
    return [np.searchsorted(np.flatnonzero(owner == chunk), ends) for chunk in range(len(rows))]


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
    chunk_units : what is dealt of every chunk: sequences, or windows of them; None deals rows
    window : most steps of a sequence that stay together, see `Selection`

    >>> schedule = Schedule([4, 4], batch_rows=3, passes=2, seed=0, together=2)
    >>> schedule.steps
    6
    """

    chunk_rows: Sequence[int]
    batch_rows: int
    passes: int
    seed: int
    together: int
    chunk_units: Sequence[int] | None = None
    window: int | None = None

    @cached_property
    def steps(self) -> int:
        """Mini-batches of all passes."""
        return self._ends[-1] if self._ends else 0

    def pieces(self, step: int, refs: Sequence[ChunkRef]) -> list[RowSelection]:
        """What a mini-batch draws from the chunks."""
        position = bisect_right(self._ends, step)
        stretch = self._stretches[position]
        batch = step - (self._ends[position] - stretch.batches)
        cuts = self._cuts(position)
        pieces = []
        for chunks in stretch.shares:
            bounds = [(int(cuts[chunk][batch]), int(cuts[chunk][batch + 1])) for chunk in chunks]
            draws = [
                Selection(first, stop, (self.seed, stretch.number, chunk), self.window)
                for chunk, (first, stop) in zip(chunks, bounds, strict=True)
            ]
            if any(first < stop for first, stop in bounds):
                pieces.append(RowSelection(tuple(refs[chunk] for chunk in chunks), tuple(draws)))
        return pieces

    def _cuts(self, position: int) -> dict[int, NDArray[np.int64]]:
        """Where each mini-batch of a stretch begins within each of its chunks."""
        if position not in self._known_cuts:
            self._known_cuts.clear()
            stretch = self._stretches[position]
            chunks = sorted(chunk for share in stretch.shares for chunk in share)
            bounds = deal([self._units[chunk] for chunk in chunks], stretch.batches)
            self._known_cuts[position] = dict(zip(chunks, bounds, strict=True))
        return self._known_cuts[position]

    @cached_property
    def _known_cuts(self) -> dict[int, dict[int, NDArray[np.int64]]]:
        return {}

    @property
    def _units(self) -> Sequence[int]:
        return self.chunk_rows if self.chunk_units is None else self.chunk_units

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
                most = max(1, sum(self._units[chunk] for chunk in chunks))
                stretches.append(_Stretch(number, shares, min(most, max(1, round(rows / self.batch_rows)))))
        return stretches
