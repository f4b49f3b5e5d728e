"""Many small blocks of a lazy Dask array, and a task that takes no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array
import numpy as np
from numpy.typing import NDArray

from streamem import ReadOptions, Stats, open_source
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef


def block_of_rows(block_info: Any = None) -> NDArray[Any]:
    """A block of 50 rows."""
    (start, _), _ = block_info[None]["array-location"]
    return np.random.default_rng(start).normal(size=(50, 2))


def lazy_refs(n_blocks: int) -> Sequence[ChunkRef]:
    """Handles of a lazy Dask array, each with its part of the graph."""
    data = dask.array.map_blocks(block_of_rows, chunks=((50,) * n_blocks, (2,)), dtype=float, meta=np.empty((0, 0)))
    return open_source(data, options=ReadOptions(chunk_bytes=800)).chunks()


class Rows:
    """Counts rows."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        return Stats(rows=chunk.rows)
