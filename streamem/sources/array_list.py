"""Rows from a list of arrays, one after the other; nothing is joined as a whole."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk, as_floats, without_idle_mask
from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.array import fingerprint_sample, fingerprint_steps
from streamem.sources.numeric import numeric_dtype
from streamem.sources.plan import even_cuts


@dataclass(frozen=True, eq=False)
class ListChunkRef(ChunkRef):
    """Parts of arrays that follow each other; only these parts travel."""

    parts: tuple[NDArray[Any], ...]
    dtype: np.dtype[Any]
    index: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(len(part) for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded chunk."""
        return self.rows * self.parts[0].shape[1] * self.dtype.itemsize

    @property
    def load_nbytes(self) -> int:
        """The chunk, and one part converted."""
        return self.nbytes + max(part.size for part in self.parts) * self.dtype.itemsize

    def load(self) -> Chunk:
        """The rows; a view where one array holds them as they are."""
        if len(self.parts) == 1:
            return Chunk(as_floats(self.parts[0], self.dtype))
        return Chunk(np.concatenate([as_floats(part, self.dtype) for part in self.parts]))


class ListSource(Source):
    """Rows of arrays (n_i, d) in the order of the list.

    Raises
    ------
    SchemaError : arrays that are not numeric, not two-dimensional, or of unequal d
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], chunk_bytes: int) -> None:
        origin = f"the list of {len(arrays)} arrays"
        _require_alike(arrays)
        arrays = [without_idle_mask(array) for array in arrays]
        self._arrays, self._chunk_bytes = arrays, chunk_bytes
        dtypes = {numeric_dtype(array.dtype, f"array {i} of the list") for i, array in enumerate(arrays)}
        dtype = np.result_type(*dtypes)
        self.schema = Schema(arrays[0].shape[1], dtype, None, weighted=False, origin=origin)
        self.lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        self.n_rows = int(self.lengths.sum())

    def fingerprint(self) -> str:
        """Shapes, dtypes and a checksum of evenly spaced rows."""
        step, columns = fingerprint_steps(self.n_rows, self.schema.n_features)
        crc, first = zlib.crc32(self.lengths.tobytes()), 0
        for array in self._arrays:
            crc = zlib.crc32(fingerprint_sample(array, step, columns, first).tobytes(), crc)
            first = (first - len(array)) % step
        return f"list({self.n_rows}, {self.schema.n_features}){self.schema.dtype}-{crc:08x}"

    def chunks(self) -> Sequence[ListChunkRef]:
        """Even cuts of `chunk_bytes`."""
        dtype = self.schema.dtype
        ends = np.cumsum(self.lengths)
        cuts = even_cuts(self.n_rows, self.schema.n_features * dtype.itemsize, self._chunk_bytes)
        return [ListChunkRef(self._between(a, b, ends), dtype, i, a) for i, (a, b) in enumerate(cuts)]

    def _between(self, start: int, stop: int, ends: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        begins = ends - self.lengths
        parts = (
            self._arrays[i][max(0, start - int(begins[i])) : stop - int(begins[i])] for i in range(first, last + 1)
        )
        return tuple(part for part in parts if len(part))


def _require_alike(arrays: Sequence[NDArray[Any]]) -> None:
    if not arrays:
        raise SchemaError("the list of sequences is empty; at least one array (n, d) is needed")
    for i, array in enumerate(arrays):
        if array.ndim != 2:
            raise SchemaError(f"array {i} of the list has shape {array.shape}; each sequence must be (n, d)")
        if array.shape[1] != arrays[0].shape[1]:
            raise SchemaError(
                f"array {i} of the list has {array.shape[1]} features and array 0 has {arrays[0].shape[1]}; all "
                "sequences need the same features"
            )
