"""A source of which some units are left out by weight zero: those that a hash of their number picks, or all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source
from streamem.core.sequences import Sequences
from streamem.sources.wrapped import WrappedRef

Array = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """Which units are held out: rows, or whole sequences; the same for every plan of the same data.

    Attributes
    ----------
    share : of the units, about
    seed : of the hash
    held : whether to keep those that are held out; else the others
    """

    share: float
    seed: int
    held: bool

    def keeps(self, units: Array) -> Array:
        """Whether each unit (n,) int64 is kept."""
        out = hashed(units, self.seed) < np.uint64(int(self.share * 2.0**64))
        return out if self.held else ~out


def hashed(units: Array, seed: int) -> Array:
    """(n,) uint64, evenly spread: the finalizer of SplitMix64 (Steele, Lea & Flood 2014) on the number and the seed."""
    with np.errstate(over="ignore"):
        x = units.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


@dataclass(frozen=True, eq=False)
class SplitRef(WrappedRef):
    """A chunk of another source, with weight zero for the rows that are not kept."""

    split: Split
    offsets: Array | None
    """First rows of the sequences that have a row in the chunk, and what comes before them is `first`."""
    first: int = 0

    @property
    def load_nbytes(self) -> int:
        """The base's peak, weights, and what hashing takes."""
        return self.base.load_nbytes + 40 * self.base.rows

    @property
    def sequences(self) -> Sequences | None:
        """The sequences of the base."""
        return self.base.sequences

    @property
    def made_of(self) -> tuple[ChunkRef, ...]:
        """The chunks that hold the rows of the base."""
        return self.base.made_of

    def drawn(self, load: Any) -> Chunk:
        """The rows of the base, with weights."""
        return self._weighed(self.base.drawn(load))

    def load(self) -> Chunk:
        """The chunk of the base with weights."""
        return self._weighed(self.base.load())

    def _weighed(self, chunk: Chunk) -> Chunk:
        rows = np.arange(self.start, self.start + self.rows, dtype=np.int64)
        units = rows if self.offsets is None else self.first + np.searchsorted(self.offsets, rows, side="right")
        kept = self.split.keeps(units).astype(np.float64)
        return replace(chunk, weight=kept if chunk.weight is None else chunk.weight * kept)


class SplitSource(Source):
    """The rows of another source; those that are not kept have weight zero."""

    def __init__(self, base: Source, split: Split) -> None:
        self._base, self._split = base, split
        self.schema = replace(base.schema, weighted=True)
        self.n_rows = base.n_rows
        self.row_shape: tuple[int, ...] = tuple(getattr(base, "row_shape", ()))
        self.grid = getattr(base, "grid", None)
        self.offsets = base.offsets

    def fingerprint(self) -> str:
        """The fingerprint of the base, and the split."""
        kept = "held out" if self._split.held else "kept"
        return f"{self._base.fingerprint()}+{kept}-{self._split.share}-{self._split.seed}"

    def chunks(self) -> Sequence[SplitRef]:
        """The plan of the base."""
        return [self._ref(ref) for ref in self._base.chunks()]

    def _ref(self, ref: ChunkRef) -> SplitRef:
        if self.offsets is None:
            return SplitRef(ref, self._split, None)
        starts = self.offsets[:-1]
        low, high = np.searchsorted(starts, [ref.start, ref.start + ref.rows], side="left")
        return SplitRef(ref, self._split, np.asarray(starts[low:high]), int(low))
