"""Arrays of which slabs along the first row axis can be read: what a format has to say, and the source made of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.formats.libraries import faults
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts


class SlabTable(ABC):
    """Rows of an array, or of several side by side, that are read by positions of the first row axis.

    It travels to workers, so it holds an address rather than an open file.
    """

    if TYPE_CHECKING:  # a subclass has fields or properties of these names

        @property
        def schema(self) -> Schema:
            """What the rows look like."""

        @property
        def row_shape(self) -> tuple[int, ...]:
            """The axes that become rows."""

        @property
        def granule(self) -> int:
            """Positions of the first row axis that are stored together."""

        @property
        def stored_row_nbytes(self) -> int:
            """Bytes of a row as it is stored."""

    @abstractmethod
    def read(self, first: int, last: int, out: NDArray[Any]) -> NDArray[np.float64] | None:
        """Write the rows of positions first … last − 1 into out (n, d); their weights (n,), if rows have weights."""

    @abstractmethod
    def stamp(self) -> str:
        """A short text that changes when the data does."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of this machine that reading opens."""
        return ()


@dataclass(frozen=True, eq=False)
class SlabRef(ChunkRef):
    """Positions first … last − 1 of the first row axis."""

    table: SlabTable
    first: int
    last: int
    index: int
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * _row_nbytes(self.table.schema)

    @property
    def load_nbytes(self) -> int:
        """The chunk, and a slab as it is stored, with the storage units at its ends."""
        inner = max(1, self.rows // max(1, self.last - self.first))
        return self.nbytes + (self.rows + 2 * self.table.granule * inner) * self.table.stored_row_nbytes

    @property
    def paths(self) -> tuple[str, ...]:
        """What reading the array opens on this machine."""
        return self.table.paths

    def load(self) -> Chunk:
        """Read the rows.

        Raises
        ------
        SourceError : they cannot be read
        """
        schema = self.table.schema
        x = np.empty((self.rows, schema.n_features), schema.dtype)
        with faults(f"read rows {self.start}–{self.start + self.rows - 1} of {schema.origin}"):
            return Chunk(x, self.table.read(self.first, self.last, x))


class SlabSource(Source):
    """Rows in slabs of whole storage units."""

    def __init__(self, table: SlabTable, options: ReadOptions) -> None:
        self._table, self._chunk_bytes = table, options.chunk_bytes
        self.schema = table.schema
        self.row_shape = table.row_shape
        self.n_rows = math.prod(table.row_shape)

    def fingerprint(self) -> str:
        """What the data say of their state, and the features."""
        return f"{self._table.stamp()}, {self.n_rows} rows of {self.schema.n_features} {self.schema.dtype}"

    def chunks(self) -> Sequence[SlabRef]:
        """Neighbouring units, grouped up to `chunk_bytes`."""
        if self.n_rows == 0:
            return []
        length = self.row_shape[0]
        inner = self.n_rows // length
        granule = min(self._table.granule, length)
        cuts = even_cuts(length, inner * _row_nbytes(self.schema), self._chunk_bytes, granule)
        return [SlabRef(self._table, a, b, i, a * inner, (b - a) * inner) for i, (a, b) in enumerate(cuts)]


def _row_nbytes(schema: Schema) -> int:
    return schema.n_features * schema.dtype.itemsize + (8 if schema.weighted else 0)
