"""Cutting a source into chunks that follow how it is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import MemoryLimitError

MOST_CHUNKS = 2**22
"""Of a plan, each of which is an object of about a kilobyte; 8 TiB in chunks of the default size."""


def require_plannable(chunks: int, n_rows: int, row_nbytes: int) -> None:
    """Raise `MemoryLimitError` if a plan has more than `MOST_CHUNKS` chunks."""
    if chunks > MOST_CHUNKS:
        size = max(1, n_rows * row_nbytes)
        raise MemoryLimitError(
            f"{n_rows} rows of {row_nbytes} bytes are {size / 2**30:.6g} GiB, {chunks} chunks of about "
            f"{size / chunks / 2**20:.3g} MiB; the handles of more than {MOST_CHUNKS} chunks do not fit into memory. "
            "If there really is so much, open the data with open_source(data, options=ReadOptions(chunk_bytes="
            f"{2 * -(-size // MOST_CHUNKS)})), or read a part of it"
        )


def group_pieces(piece_rows: Sequence[int], row_nbytes: int, chunk_bytes: int) -> list[range]:
    """Join neighbouring storage pieces into chunks of at most `chunk_bytes`; a larger single piece stays whole.

    Parameters
    ----------
    piece_rows : rows of each storage piece (Zarr chunk, row group, block), in order; empty pieces join their neighbours
    row_nbytes : bytes of one row in memory
    chunk_bytes : target size of a chunk

    Returns
    -------
    For each chunk, the range of its pieces. Chunks without rows are dropped.

    >>> group_pieces([10, 10, 10, 100, 5], row_nbytes=8, chunk_bytes=160)
    [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    limit = most_rows(row_nbytes, chunk_bytes)
    groups: list[range] = []
    first, rows = 0, 0
    for piece, size in enumerate(piece_rows):
        if rows and rows + size > limit:
            groups.append(range(first, piece))
            first, rows = piece, 0
        rows += size
    if rows:
        groups.append(range(first, len(piece_rows)))
    return groups


def most_rows(row_nbytes: int, chunk_bytes: int) -> int:
    """Rows of a chunk of `chunk_bytes`, at least one."""
    return max(1, chunk_bytes // max(1, row_nbytes))


def even_cuts(n_rows: int, row_nbytes: int, chunk_bytes: int, granule: int = 1) -> list[tuple[int, int]]:
    """Cut rows into (start, stop) chunks of at most `chunk_bytes` in whole multiples of `granule` rows.

    Raises
    ------
    MemoryLimitError : that are more than `MOST_CHUNKS` chunks

    >>> even_cuts(10, row_nbytes=8, chunk_bytes=32, granule=3)
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    step = max(1, chunk_bytes // max(1, row_nbytes * granule)) * granule
    require_plannable(-(-n_rows // step), n_rows, row_nbytes)
    return [(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def even_step(n_rows: int, most: int) -> int:
    """Rows of each part, the last perhaps shorter, where a storage piece is cut into as few as possible of `most` rows.

    >>> even_step(100, most=30), even_step(90, most=30)
    (25, 30)
    """
    parts = -(-n_rows // most)
    return -(-n_rows // parts)


def sequence_cuts(bounds: NDArray[np.int64], offsets: NDArray[np.int64], whole: bool = False) -> list[int]:
    """Where to cut rows that are steps of sequences, near where they are cut already.

    Each cut moves back to where the sequence that straddles it begins. One that began before the chunk is cut where it
    was, or with `whole`, not at all. So a chunk has rows of at most two of the old ones, and at least one new.

    Parameters
    ----------
    bounds : (c + 1,) strictly increasing from 0 to n: where chunks begin, and their end
    offsets : (s + 1,) strictly increasing from 0 to n: where sequences begin, and their end
    whole : never cut a sequence

    Returns
    -------
    Cuts from 0 to n; none if there are no rows.

    >>> sequence_cuts(np.array([0, 10, 20, 30]), np.array([0, 8, 12, 30])), sequence_cuts(np.array([0]), np.array([0]))
    ([0, 8, 12, 30], [])
    >>> sequence_cuts(np.array([0, 10, 20, 30]), np.array([0, 2, 26, 30]))
    [0, 2, 20, 30]
    """
    n = int(bounds[-1])
    if n == 0:
        return []
    cuts = [0]
    begins = offsets[np.searchsorted(offsets, bounds[1:-1], side="right") - 1]
    for bound, begin in zip(bounds[1:-1].tolist(), begins.tolist(), strict=True):
        if begin > cuts[-1]:
            cuts.append(begin)
        elif not whole:
            cuts.append(bound)
    return [*cuts, n]
