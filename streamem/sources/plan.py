"""Cutting a source into chunks that follow how it is stored."""

from __future__ import annotations

from collections.abc import Sequence


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
    limit = max(1, chunk_bytes // max(1, row_nbytes))
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


def even_cuts(n_rows: int, row_nbytes: int, chunk_bytes: int, granule: int = 1) -> list[tuple[int, int]]:
    """Cut rows into (start, stop) chunks of at most `chunk_bytes` in whole multiples of `granule` rows.

    >>> even_cuts(10, row_nbytes=8, chunk_bytes=32, granule=3)
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    step = max(1, chunk_bytes // max(1, row_nbytes * granule)) * granule
    return [(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
