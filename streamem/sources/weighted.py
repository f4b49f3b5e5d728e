"""Sample weights that lie apart from the rows: an array, a ``.npy`` file or a Zarr array."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import is_address
from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.array import memory_map
from streamem.sources.numeric import as_array, refuse_masked
from streamem.sources.sequences import SequenceSource
from streamem.sources.wrapped import WrappedRef

FINGERPRINT_WEIGHTS = 1024
NEEDED = "every row needs a weight: 0 leaves it out"


class Weights(Protocol):
    """One-dimensional numbers that can be read in slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, (n,)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Weights start … stop − 1."""

    def part(self, start: int, stop: int) -> Weights:
        """Weights of which only start … stop − 1 will be read: the part that travels to another process."""

    def fingerprint(self) -> str:
        """A short text that changes when the weights do."""


@dataclass(frozen=True, eq=False)
class ArrayWeights:
    """Weights in memory or memory-mapped; the first is that of row `offset`."""

    array: NDArray[Any]
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array."""
        return self.array.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Weights start … stop − 1, as a view."""
        return self.array[start - self.offset : stop - self.offset]

    def part(self, start: int, stop: int) -> ArrayWeights:
        """A copy of these weights alone."""
        return ArrayWeights(np.array(self.read(start, stop)), start)

    def fingerprint(self) -> str:
        """Checksum of up to a thousand evenly spaced weights."""
        step = max(1, len(self.array) // FINGERPRINT_WEIGHTS)
        return f"{zlib.crc32(np.ascontiguousarray(self.array[::step]).tobytes()):08x}"


@dataclass(frozen=True, eq=False)
class WeightedChunkRef(WrappedRef):
    """A chunk of another source together with its slice of the weights."""

    weights: Weights

    def __reduce__(self) -> tuple[Any, ...]:
        return WeightedChunkRef, (self.base, self.weights.part(self.start, self.start + self.rows))

    @property
    def load_nbytes(self) -> int:
        """The base's peak and the weights twice."""
        return self.base.load_nbytes + 16 * self.base.rows

    def load(self) -> Chunk:
        """The base chunk with its weights."""
        weight = self.weights.read(self.start, self.start + self.rows)
        return replace(self.base.load(), weight=np.asarray(weight, dtype=np.float64))


class WeightedSource(Source):
    """A source with weights from elsewhere."""

    def __init__(self, base: Source, weights: Weights) -> None:
        self._base, self._weights = base, weights
        self.schema = replace(base.schema, weighted=True)
        self.n_rows = base.n_rows
        self.row_shape: tuple[int, ...] = tuple(getattr(base, "row_shape", ()))
        self.grid = getattr(base, "grid", None)

    def fingerprint(self) -> str:
        """Fingerprints of the rows and of the weights."""
        return f"{self._base.fingerprint()}+weights-{self._weights.fingerprint()}"

    def chunks(self) -> Sequence[WeightedChunkRef]:
        """The plan of the rows."""
        return [WeightedChunkRef(ref, self._weights) for ref in self._base.chunks()]


def open(source: Source, weight: Any) -> Source:
    """Attach weights to a source; refuse a wrong length, shape or dtype. Sequences may have one weight each.

    Raises
    ------
    DataError : masked weights
    SchemaError : the weights do not fit the rows
    SourceError : their file cannot be read
    """
    if source.schema.weighted:
        raise SchemaError("weights were given twice: as a column and as an array; give one")
    weights = open_weights(weight)
    if isinstance(source, SequenceSource):
        return source.weighted(
            weights.read(0, weights.shape[0]) if len(weights.shape) == 1 else np.empty(weights.shape)
        )
    if len(weights.shape) != 1 or weights.shape[0] != source.n_rows:
        raise SchemaError(
            f"sample_weight has shape {tuple(weights.shape)}; {source.schema.origin} has {source.n_rows} rows, so "
            f"({source.n_rows},) is needed"
        )
    if weights.dtype.kind not in "biuf":
        raise SchemaError(f"sample_weight holds {weights.dtype}, which is not numeric")
    return WeightedSource(source, weights)


def open_weights(weight: Any) -> Weights:
    """Numbers of an array, or of a file or Zarr array that is read slice by slice.

    Raises
    ------
    DataError : masked numbers
    SourceError : their file cannot be read
    """
    is_path = isinstance(weight, str | os.PathLike)
    if is_path and is_address(weight) and os.fspath(weight).endswith(".npy"):
        far: Weights = import_whole("streamem.sources.npy_far").file_at(weight)
        return far
    if is_path and str(weight).endswith(".npy"):
        return ArrayWeights(memory_map(Path(str(weight))))
    if is_path or type(weight).__module__.partition(".")[0] == "zarr":
        weights: Weights = import_whole("streamem.sources.zarr_weights").open(weight)
        return weights
    numbers = as_array(weight)
    refuse_masked(numbers, "sample_weight", NEEDED)
    return ArrayWeights(np.asarray(numbers))
