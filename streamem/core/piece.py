"""Parts of chunks: the rows that one mini-batch takes from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Held

ORDERS_KEPT = 64
"""Orders of chunks that a process remembers: every mini-batch of a group of open chunks needs them again."""


@dataclass(frozen=True)
class Draw:
    """Places first … stop − 1 of a chunk in an order of its rows: a random one for a seed, the stored one for None."""

    first: int
    stop: int
    seed: tuple[int, ...] | None = None

    def rows(self, chunk_rows: int) -> NDArray[np.int64] | slice:
        """Which rows of a chunk of so many, in the order in which they are stored."""
        if self.seed is None:
            return slice(self.first, self.stop)
        return np.sort(_order(self.seed, chunk_rows)[self.first : self.stop]).astype(np.int64)

    def of(self, chunk: Chunk) -> Chunk:
        """Those rows."""
        rows = self.rows(chunk.rows)
        return Chunk(chunk.x[rows], None if chunk.weight is None else chunk.weight[rows])


@dataclass(frozen=True)
class Piece:
    """A handle on some rows of one or several chunks. Executors load a chunk once for many pieces.

    Attributes
    ----------
    bases, draws : the chunks, at least one, and what is drawn from each
    """

    bases: tuple[ChunkRef, ...]
    draws: tuple[Draw, ...]

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
        return sum(draw.stop - draw.first for draw in self.draws)

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
    def futures(self) -> Mapping[Any, Any]:
        """Those of the chunks."""
        return {key: value for base in self.bases if isinstance(base, Held) for key, value in base.futures.items()}

    def given(self, values: Mapping[Any, Any]) -> Piece:
        """With values in place of the chunks' futures."""
        return replace(self, bases=tuple(base.given(values) if isinstance(base, Held) else base for base in self.bases))

    def load(self) -> Chunk:
        """Read the chunks and take the rows."""
        return self.drawn(lambda base: base.load())

    def drawn(self, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        """The rows, from chunks that `load` gives."""
        parts = [draw.of(load(base)) for base, draw in zip(self.bases, self.draws, strict=True)]
        if len(parts) == 1:
            return parts[0]
        weights = [part.weight for part in parts if part.weight is not None]
        return Chunk(np.concatenate([part.x for part in parts]), np.concatenate(weights) if weights else None)

    def row(self, i: int) -> int:
        """Where row i of these lies within the source."""
        for base, draw in zip(self.bases, self.draws, strict=True):
            if i < draw.stop - draw.first:
                rows = draw.rows(base.rows)
                return base.start + int(rows.start + i if isinstance(rows, slice) else rows[i])
            i -= draw.stop - draw.first
        raise IndexError(i)


@lru_cache(maxsize=ORDERS_KEPT)
def _order(seed: tuple[int, ...], rows: int) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).permutation(np.arange(rows, dtype=np.uint32))
