"""Numbers that lie apart from the rows, in a file or a store, as a source of one column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.opening import anywhere
from streamem.sources.plan import even_cuts
from streamem.sources.weighted import Weights, open_weights


@dataclass(frozen=True, eq=False)
class NumbersRef(ChunkRef):
    """Numbers start … start + rows − 1; only these travel where they are in memory."""

    numbers: Weights
    index: int
    start: int
    rows: int

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.numbers.part(self.start, self.start + self.rows)
        return NumbersRef, (own, self.index, self.start, self.rows)

    @property
    def nbytes(self) -> int:
        """8 bytes a number."""
        return 8 * self.rows

    @property
    def load_nbytes(self) -> int:
        """Numbers as they are stored, and in float64."""
        return 2 * self.nbytes

    def load(self) -> Chunk:
        """The numbers (rows, 1), in float64."""
        found = np.asarray(self.numbers.read(self.start, self.start + self.rows), dtype=np.float64)
        return Chunk(np.ascontiguousarray(found[:, None]))


class OneColumn(Source):
    """A one-dimensional array of numbers in a ``.npy`` file or a Zarr store; messages call it `what`.

    Raises
    ------
    SchemaError : no numbers, or another number of axes
    SourceError : it cannot be opened
    """

    def __init__(self, data: Any, what: str, chunk_bytes: int) -> None:
        try:
            self._numbers = numbers = open_weights(anywhere(data))
        except SourceError as error:
            raise SourceError(
                f"{what}: {error}. An array in memory, such as zarr_array[:], is taken as it is"
            ) from error
        if len(numbers.shape) != 1 or numbers.dtype.kind not in "biuf":
            raise SchemaError(
                f"{what} has shape {tuple(numbers.shape)} and holds {numbers.dtype}; one axis of numbers is needed"
            )
        self.n_rows, self._chunk_bytes = int(numbers.shape[0]), chunk_bytes
        self.schema = Schema(1, np.dtype(np.float64), None, weighted=False, origin=what)

    def fingerprint(self) -> str:
        """Checksum or stamp of the numbers."""
        return f"column-{self._numbers.fingerprint()}"

    def chunks(self) -> Sequence[NumbersRef]:
        """Even cuts."""
        cuts = even_cuts(self.n_rows, 8, self._chunk_bytes)
        return [NumbersRef(self._numbers, i, a, b - a) for i, (a, b) in enumerate(cuts)]
