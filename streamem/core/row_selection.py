"""Parts of chunks: the rows, or the whole sequences, that one mini-batch takes from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk, covariates_of
from streamem.core.ports import ChunkRef
from streamem.core.sequences import Sequences

Ints = NDArray[np.int64]
ORDERS_KEPT = 64
"""Orders of chunks that a process remembers: every mini-batch of a group of open chunks needs them again."""


@dataclass(frozen=True)
class Selection:
    """Places first … stop − 1 of a chunk in an order of its units: a random one for a seed, the stored one for None.

    Units are rows; of steps of sequences they are the sequences within the chunk, so that no draw tears one apart,
    those longer than `window` cut into windows. A window, or the part of a sequence that lies in another chunk, counts
    as a sequence of its own.
    """

    first: int
    stop: int
    seed: tuple[int, ...] | None = None
    window: int | None = None

    def places(self, units: int) -> Ints | slice:
        """Which units of a chunk of so many, in the order in which they are stored."""
        if self.seed is None:
            return slice(self.first, self.stop)
        return np.sort(_order(self.seed, units)[self.first : self.stop]).astype(np.int64)

    def rows(self, ref: ChunkRef) -> Ints | slice:
        """Which rows of a chunk, in the order in which they are stored."""
        if ref.sequences is None:
            return self.places(ref.rows)
        return self._within(unit_lengths(np.diff(ref.sequences.offsets), self.window))[0]

    def count(self, ref: ChunkRef) -> int:
        """How many rows of a chunk are drawn."""
        if (sequences := ref.sequences) is None:
            return self.stop - self.first
        lengths = unit_lengths(np.diff(sequences.offsets), self.window)
        return int(lengths[self.places(len(lengths))].sum())

    def of(self, chunk: Chunk) -> Chunk:
        """The selected rows of a chunk."""
        rows: Ints | slice
        if chunk.sequences is None:
            rows, sequences = self.places(chunk.rows), None
        else:
            rows, offsets = self._within(unit_lengths(np.diff(chunk.sequences.offsets), self.window))
            sequences = Sequences(offsets, padded=chunk.sequences.padded)
        weight = None if chunk.weight is None else chunk.weight[rows]
        return Chunk(chunk.x[rows], weight, sequences, chunk.beside(rows))

    def _within(self, lengths: Ints) -> tuple[Ints, Ints]:
        """Rows of the drawn units, given how long each is, and where each begins among these rows."""
        chosen = self.places(len(lengths))
        taken, starts = lengths[chosen], (np.cumsum(lengths) - lengths)[chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(taken)])
        return np.repeat(starts - offsets[:-1], taken) + np.arange(offsets[-1]), offsets


def unit_lengths(lengths: Ints, window: int | None) -> Ints:
    """Steps of every unit that is drawn as a whole: sequences, longer ones cut into equal windows.

    >>> unit_lengths(np.array([3, 10]), window=4).tolist()
    [3, 4, 3, 3]
    """
    if window is None:
        return lengths
    parts = np.maximum(1, -(-lengths // window))
    place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    least, more = np.divmod(lengths, parts)
    return np.asarray(np.repeat(least, parts) + (place < np.repeat(more, parts)), dtype=np.int64)


def n_units(ref: ChunkRef, window: int | None = None) -> int:
    """How many units can be drawn from a chunk."""
    sequences = ref.sequences
    return ref.rows if sequences is None else len(unit_lengths(np.diff(sequences.offsets), window))


@dataclass(frozen=True)
class RowSelection(ChunkRef):
    """A handle on some rows of one or several chunks. Executors load a chunk once for many pieces.

    Attributes
    ----------
    bases, draws : the chunks, at least one, and what is drawn from each
    """

    bases: tuple[ChunkRef, ...]
    draws: tuple[Selection, ...]

    @property
    def index(self) -> int:
        """Position of the first chunk in the plan."""
        return self.bases[0].index

    @property
    def start(self) -> int:
        """First row of the first chunk."""
        return self.bases[0].start

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(draw.count(base) for base, draw in zip(self.bases, self.draws, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of these rows."""
        base = self.bases[0]
        return -(-base.nbytes * self.rows // max(1, base.rows))

    @property
    def load_nbytes(self) -> int:
        """What loading a chunk takes, and a copy of the rows."""
        return max(base.load_nbytes for base in self.bases) + self.nbytes

    @property
    def made_of(self) -> tuple[ChunkRef, ...]:
        """The chunks from which rows are drawn."""
        return self.bases

    @property
    def selection(self) -> tuple[Selection, ...]:
        """What is drawn from each."""
        return self.draws

    @property
    def place(self) -> str:
        """How many rows of which chunk, or of how many."""
        chunks = self.bases[0].place if len(self.bases) == 1 else f"{len(self.bases)} chunks"
        return f"{self.rows} rows drawn from {chunks}"

    @property
    def on_cluster(self) -> Mapping[Any, Any]:
        """Results on a cluster that the chunks rest on."""
        return {key: value for base in self.bases for key, value in base.on_cluster.items()}

    def given(self, values: Mapping[Any, Any]) -> RowSelection:
        """This selection, with values in place of the results in `on_cluster`."""
        return replace(self, bases=tuple(base.given(values) for base in self.bases))

    def load(self) -> Chunk:
        """Read the chunks and take the rows."""
        return self.drawn(lambda base: base.load())

    def drawn(self, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        """The rows, from chunks that `load` gives."""
        parts = [draw.of(load(base)) for base, draw in zip(self.bases, self.draws, strict=True)]
        if len(parts) == 1:
            return parts[0]
        weights = [part.weight for part in parts if part.weight is not None]
        x = np.concatenate([part.x for part in parts])
        sequences = _joined([part.sequences for part in parts])
        return Chunk(x, np.concatenate(weights) if weights else None, sequences, covariates_of(parts))

    def row(self, i: int) -> int:
        """Where row i of these lies within the source."""
        for base, draw in zip(self.bases, self.draws, strict=True):
            if i < draw.count(base):
                rows = draw.rows(base)
                return base.start + int(rows.start + i if isinstance(rows, slice) else rows[i])
            i -= draw.count(base)
        raise IndexError(i)


def _joined(parts: Sequence[Sequences | None]) -> Sequences | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    lengths = np.concatenate([np.diff(part.offsets) for part in known])
    return Sequences(np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), padded=known[0].padded)


@lru_cache(maxsize=ORDERS_KEPT)
def _order(seed: tuple[int, ...], units: int) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).permutation(np.arange(units, dtype=np.uint32))
