"""Rows of which only mean and covariance matter, as a few rows with the same: after one pass, EM needs no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.missing import Missing
from streamem.core.numerics import EPS
from streamem.core.ports import ChunkRef, PassTask, Source
from streamem.core.stats import Stats
from streamem.core.validation import require_finite
from streamem.running.answers import reduce_source
from streamem.running.engines import Engine
from streamem.sources import ReadOptions
from streamem.sources.array import ArraySource
from streamem.sources.weighted import ArrayWeights, WeightedSource

Array = NDArray[Any]

MOST_FEATURES = 512
"""Columns of which all products are summed: of more, a pass over rows costs less, and statistics take megabytes."""
LEAST_ROWS = 2**14
"""Of data that are taken by their moments; small data keep the arithmetic of rows."""
ROWS_A_FEATURE = 16
"""Rows for each column from which on moments save work."""
FAR = 16.0
"""Spreads between the mean of the first chunk and that of all: beyond it second moments about the first lose digits."""
SHIFTED = 2.0**20
"""Spreads between the mean and 0: beyond it rows that are made anew are rounded more than what they tell."""
BLOCK_BYTES = 2**19


@dataclass(frozen=True, eq=False)
class AddMoments(PassTask[Stats]):
    """weight, Σ w·y (d,) and Σ w·y·yᵀ (d, d) of the rows of a chunk, y = (x − center) / scale."""

    names: tuple[str, ...] | None
    missing: Missing
    center: Array
    scale: Array

    @np.errstate(over="ignore", invalid="ignore")  # sums that are not finite are not used
    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Moments of one chunk."""
        require_finite(chunk, ref, self.names, self.missing)
        d = len(self.center)
        finer, step = 1.0 / self.scale, max(64, BLOCK_BYTES // (8 * d))
        weight, first, second = 0.0, np.zeros(d), np.zeros((d, d))
        for start in range(0, chunk.rows, step):
            y = (chunk.x[start : start + step] - self.center) * finer
            if chunk.weight is None:
                weight, first = weight + len(y), first + y.sum(axis=0)
            else:
                own = chunk.weight[start : start + step]
                weight, first = weight + float(own.sum()), first + own @ y
                y *= np.sqrt(own)[:, None]
            second += y.T @ y
        return Stats(weight=weight, first=first, second=second)


@dataclass(frozen=True, eq=False)
class _Anchor(PassTask[Array]):
    """Mean and standard deviation (2, d) of the rows of a chunk."""

    names: tuple[str, ...] | None
    missing: Missing

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """Mean and deviation, without weights."""
        require_finite(chunk, ref, self.names, self.missing)
        return np.stack([chunk.x.mean(axis=0, dtype=np.float64), chunk.x.std(axis=0, dtype=np.float64)])


def condensed(source: Source, missing: Missing, engine: Engine) -> Source:
    """2·d rows in memory with the weight, mean and covariance of a source; the source itself where that does not pay.

    They are mean ± √d·l_j, l_j the columns of a root of the covariance, and weigh the same. The log-likelihood of any
    Gaussian is that of all rows, and so is each EM step, up to rounding. Takes one pass, along the reduction tree, and
    a look at the first chunk, about whose mean moments are taken. Rows stay where this would lose digits: columns that
    are constant, lie far from 0 for their spread, or begin far from where they go on.

    Raises
    ------
    DataError : values that are not finite
    """
    refs, d, names = source.chunks(), source.schema.n_features, source.schema.names
    if d > MOST_FEATURES or source.n_rows < max(LEAST_ROWS, ROWS_A_FEATURE * d):
        return source
    with engine.executor(source, engine.project(source, refs[:1], held=0, summed=False)) as executor:
        [(center, deviation)] = executor.map(_Anchor(names, missing), refs[:1], lambda done: None)
    if not (np.isfinite(center) & np.isfinite(deviation) & (deviation > 0)).all():
        return source
    scale = np.exp2(np.round(np.log2(deviation)))
    found = reduce_source(source, AddMoments(names, missing, center, scale), engine, held=8 * (d + 2) * d)
    rows = _rows(found, center, scale)
    if rows is None:
        return source
    origin = f"{source.schema.origin} ({source.n_rows:,} rows as {len(rows):,} with their mean and covariance)"
    options = ReadOptions(chunk_bytes=engine.budget.chunk_bytes, most_chunk_bytes=engine.budget.most_chunk_bytes)
    weights = np.full(len(rows), float(found.weight) / len(rows))
    few = WeightedSource(ArraySource(rows, options, origin, names), ArrayWeights(weights))
    few.patterns_of = source.n_rows
    return few


@np.errstate(all="ignore")  # what is not finite is refused below
def _rows(found: Stats, center: Array, scale: Array) -> Array | None:
    """Rows (2·d, d) with the mean and covariance that are found; None where moments tell them badly."""
    weight, d = float(found.weight), len(center)
    mean = np.asarray(found.first) / weight
    sizes = np.diagonal(found.second) / weight
    variances = sizes - mean**2
    spread = np.sqrt(variances)
    middle = center + scale * mean
    told = (
        (variances > 64 * EPS * sizes) & (np.abs(mean) <= FAR * spread) & (np.abs(middle) <= SHIFTED * scale * spread)
    )
    if not (weight > 0 and told.all() and np.isfinite(found.second).all()):
        return None
    values, vectors = np.linalg.eigh((found.second / weight - np.outer(mean, mean)) / np.outer(spread, spread))
    root = (vectors * np.sqrt(np.maximum(values, 0.0) * d)).T * (spread * scale)
    return np.concatenate([middle + root, middle - root])
