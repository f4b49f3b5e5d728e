"""A uniform sample of rows, drawn in one pass with memory in proportion to the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk, covariates_of
from streamem.core.errors import ImpossibleValueError
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Executor, OnChunk
from streamem.core.sequences import Sequences
from streamem.core.validation import place_of, require_finite

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TakeRows:
    """Copies the sampled rows out of a chunk. `picks` are sorted row indices of the whole source, or None for all."""

    picks: NDArray[np.int64] | None
    names: tuple[str, ...] | None
    missing: Missing = Missing.NOTHING

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Chunk:
        """The sampled rows and their weights."""
        require_finite(chunk, ref, self.names, self.missing)
        if self.picks is None:
            return chunk
        first, last = np.searchsorted(self.picks, [ref.start, ref.start + ref.rows])
        local = self.picks[first:last] - ref.start
        weight = None if chunk.weight is None else chunk.weight[local]
        return Chunk(chunk.x[local], weight, covariates=chunk.beside(local))


def sample_rows(
    refs: Sequence[ChunkRef],
    n_rows: int,
    size: int,
    executor: Executor,
    rng: np.random.RandomState,
    names: tuple[str, ...] | None,
    on_chunk: OnChunk,
    missing: Missing = Missing.NOTHING,
    offsets: NDArray[np.int64] | None = None,
) -> Chunk:
    """Draw `size` rows without replacement, in the order of the source; all rows (and no random number) if size ≥ n.

    `missing` says what of a row may be NaN. `offsets` (s + 1,) are first rows of
    sequences, and n.

    Returns
    -------
    Chunk with x (min(size, n), d), the weights of these rows, and with `offsets` which of them are of one sequence.
    """
    executor.expect(refs)  # requests wait while rows are drawn
    picks = drawn_rows(n_rows, size, rng)
    pieces = list(executor.map(TakeRows(picks, names, missing), refs, on_chunk))
    weights = [piece.weight for piece in pieces if piece.weight is not None]
    sequences = None
    if offsets is not None:
        sequences = Sequences(np.asarray(offsets if picks is None else np.searchsorted(picks, offsets), dtype=np.int64))
    return Chunk(
        np.concatenate([piece.x for piece in pieces]),
        np.concatenate(weights) if weights else None,
        sequences,
        covariates_of(pieces),
    )


def drawn_rows(n_rows: int, size: int, rng: np.random.RandomState) -> NDArray[np.int64] | None:
    """Sorted indices of the rows that `sample_rows` draws; None for all of them."""
    return None if size >= n_rows else draw_indices(n_rows, size, rng)


def located_in_source(
    error: ImpossibleValueError,
    sample: Chunk,
    picks: NDArray[np.int64] | None,
    refs: Sequence[ChunkRef],
    names: Sequence[str] | None,
) -> ImpossibleValueError:
    """The error about a value of a sample, with its chunk and its row in the source; itself where it is not found.

    `picks` are what `drawn_rows` said when the sample was drawn.
    """
    if error.column >= sample.x.shape[1] or not (same := sample.x[:, error.column] == error.value).any():
        return error
    drawn = int(np.argmax(same))
    row = drawn if picks is None else int(picks[drawn])
    ref = next(ref for ref in reversed(refs) if ref.start <= row)
    place = place_of(ref, row - ref.start, error.column, names)
    return ImpossibleValueError(error.value, error.column, error.needed, place)


def draw_indices(n_rows: int, size: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """`size` distinct indices below n_rows, uniform over subsets, sorted; memory in proportion to size.

    The distinct values of independent draws are, given how many there are, a uniform subset; a uniform subset of
    that is one again.
    """
    generator = np.random.default_rng(rng.randint(2**32, dtype=np.uint64))
    if n_rows <= 4 * size:
        return np.sort(generator.permutation(n_rows)[:size])
    found = np.empty(0, dtype=np.int64)
    while len(found) < size:
        draws = generator.integers(n_rows, size=size + size // 4 + 16, dtype=np.int64)
        found = np.union1d(found, draws)
    return np.sort(generator.choice(found, size, replace=False))
