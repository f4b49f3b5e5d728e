"""Data of few different rows as these rows with weights: after one pass, EM costs patterns instead of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError
from streamem.core.missing import Missing
from streamem.core.patterns import Patterns
from streamem.core.ports import ChunkRef, FullFamily, PassTask, Source
from streamem.core.validation import locating, require_finite
from streamem.running.answers import reduce_source
from streamem.running.engines import Engine
from streamem.sources import ReadOptions
from streamem.sources.array import ArraySource
from streamem.sources.weighted import ArrayWeights, WeightedSource

MOST_BYTES = 2**26
"""Of patterns that are held at once."""
LEAST_ROWS = 2**14
"""Of data that "auto" looks at."""
SHARE = 0.25
"""Of the rows: more patterns than this do not pay for the pass that finds them."""


@dataclass(frozen=True, eq=False)
class CountPatterns(PassTask[Patterns]):
    """The patterns of a chunk; values that the family cannot emit are refused where they are."""

    family: FullFamily
    names: tuple[str, ...] | None
    missing: Missing
    most: int

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Patterns:
        """Different rows of one chunk with their weights."""
        require_finite(chunk, ref, self.names, self.missing)
        found = Patterns.of(chunk.x, chunk.weight, self.most)
        with locating(chunk, ref, self.names):
            self._survey(chunk, found)
        return found

    def _survey(self, chunk: Chunk, found: Patterns) -> None:
        """Look at each different row once, and at all rows where they are many or one of them has to be named."""
        if not found.lost:
            try:
                self.family.survey(np.asarray(found.rows), np.asarray(found.weights))
            except ImpossibleValueError:
                pass
            else:
                return
        self.family.survey(chunk.x, chunk.weight)


def compressed(source: Source, family: FullFamily, missing: Missing, engine: Engine, always: bool) -> Source:
    """The patterns of a source with their weights as a source in memory; the source itself where that does not pay.

    Takes one pass over the data, whose patterns are found chunk by chunk and joined along the reduction tree, on
    threads or workers. EM on weighted patterns has the same sums as EM on rows, up to rounding.

    Parameters
    ----------
    always : whether they are wanted however many they are, up to `MOST_BYTES`; else where they are a quarter of the
        rows of the first chunk, and in all

    Raises
    ------
    DataError : values that are not finite, or that the family cannot emit
    """
    refs, d = source.chunks(), source.schema.n_features
    if not refs or (source.n_rows < LEAST_ROWS and not always):
        return source
    most = MOST_BYTES // (8 * (d + 1))
    if not always:
        most = min(most, int(SHARE * source.n_rows))
        if _is_various(source, engine, d):
            return source
    task = CountPatterns(family, source.schema.names, missing, most)
    found: Any = reduce_source(source, task, engine, held=8 * (d + 1) * min(most, max(ref.rows for ref in refs)))
    if found.lost:
        return source
    origin = f"{source.schema.origin} ({source.n_rows:,} rows as {len(found.weights):,} patterns with weights)"
    options = ReadOptions(chunk_bytes=engine.budget.chunk_bytes, most_chunk_bytes=engine.budget.most_chunk_bytes)
    rows = ArraySource(np.asarray(found.rows), options, origin, source.schema.names)
    patterns = WeightedSource(rows, ArrayWeights(np.asarray(found.weights)))
    patterns.patterns_of = source.n_rows
    return patterns


def _is_various(source: Source, engine: Engine, d: int) -> bool:
    """Whether the first chunk has so many different rows that patterns are not worth a pass."""
    first = source.chunks()[0]
    if first.rows < LEAST_ROWS // 4:
        return False
    with engine.executor(source, engine.project(source, [first], held=0, summed=False)) as executor:
        [found] = executor.map(_CountFirst(), [first], lambda done: None)
    return bool(found > SHARE * first.rows)


@dataclass(frozen=True, eq=False)
class _CountFirst(PassTask[int]):
    """How many different rows a chunk has."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> int:
        """Number of different rows of the chunk."""
        return len(Patterns.of(chunk.x, None, chunk.rows).weights)
