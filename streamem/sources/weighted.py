"""Sample weights that lie apart from the rows: an array, a ``.npy`` file or a Zarr array."""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Source


@dataclass(frozen=True, eq=False)
class WeightedChunkRef:
    """A chunk of another source together with its slice of the weights."""

    base: ChunkRef
    weights: Any

    @property
    def index(self) -> int:
        """Position in the plan."""
        return self.base.index

    @property
    def start(self) -> int:
        """First row."""
        return self.base.start

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.base.rows

    @property
    def nbytes(self) -> int:
        """The rows and 8 bytes a weight."""
        return self.base.nbytes + 8 * self.base.rows

    @property
    def load_nbytes(self) -> int:
        """The base's peak and the weights twice."""
        return self.base.load_nbytes + 16 * self.base.rows

    def load(self) -> Chunk:
        """The base chunk with its weights."""
        weight = np.asarray(self.weights[self.start : self.start + self.rows], dtype=np.float64)
        return replace(self.base.load(), weight=weight)


class WeightedSource:
    """A source with weights from an indexable of n numbers."""

    def __init__(self, base: Source, weights: Any) -> None:
        self._base, self._weights = base, weights
        self.schema = replace(base.schema, weighted=True)
        self.n_rows = base.n_rows

    def fingerprint(self) -> str:
        """That of the rows, and a checksum of up to a thousand weights."""
        step = max(1, self.n_rows // 1024)
        sample = np.asarray(self._weights[::step], dtype=np.float64)
        return f"{self._base.fingerprint()}+weights-{zlib.crc32(sample.tobytes()):08x}"

    def chunks(self) -> Sequence[WeightedChunkRef]:
        """The plan of the rows."""
        return [WeightedChunkRef(ref, self._weights) for ref in self._base.chunks()]


def open(source: Source, weight: Any) -> WeightedSource:
    """Attach weights; refuse a wrong length, shape or dtype."""
    if source.schema.weighted:
        raise SchemaError("weights were given twice: as a column and as an array; give one")
    weights = _open_weights(weight)
    if weights.ndim != 1 or weights.shape[0] != source.n_rows:
        raise SchemaError(
            f"sample_weight has shape {tuple(weights.shape)}; {source.schema.origin} has {source.n_rows} rows, so "
            f"({source.n_rows},) is needed"
        )
    if np.dtype(weights.dtype).kind not in "biuf":
        raise SchemaError(f"sample_weight holds {weights.dtype}, which is not numeric")
    return WeightedSource(source, weights)


def _open_weights(weight: Any) -> Any:
    if isinstance(weight, str | os.PathLike):
        if str(weight).endswith(".npy"):
            return np.load(weight, mmap_mode="r", allow_pickle=False)
        return importlib.import_module("zarr").open_array(weight, mode="r")
    return weight if hasattr(weight, "ndim") and hasattr(weight, "dtype") else np.asarray(weight)
