"""Rows of several sources, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk, as_floats
from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.wrapped import WrappedRef


@dataclass(frozen=True, eq=False)
class JoinedRef(WrappedRef):
    """A chunk of one of the sources, in its place among those of all."""

    number: int
    first: int
    dtype: np.dtype[Any]
    row_nbytes: int

    @property
    def index(self) -> int:
        """Position in the plan of all."""
        return self.number

    @property
    def start(self) -> int:
        """First row among those of all."""
        return self.first

    @property
    def nbytes(self) -> int:
        """The rows in the dtype of all, and 8 bytes a weight."""
        return self.rows * self.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, and the rows converted."""
        return self.base.load_nbytes + self.nbytes

    @property
    def in_memory(self) -> bool:
        """Whether the chunk of the source is, as it is wanted."""
        return self.base.in_memory

    def load(self) -> Chunk:
        """The rows, in the dtype of all."""
        chunk = self.base.load()
        return chunk if chunk.x.dtype == self.dtype else replace(chunk, x=as_floats(chunk.x, self.dtype))


class JoinedSource(Source):
    """The rows of several sources, in their order.

    Raises
    ------
    SchemaError : sources that differ in the number or the names of their features, or in whether rows have weights
    """

    def __init__(self, sources: Sequence[Source], origin: str) -> None:
        first = sources[0].schema
        for source in sources[1:]:
            _require_alike(first, source.schema)
        dtype = np.result_type(*(source.schema.dtype for source in sources))
        self._sources = tuple(sources)
        self.schema = Schema(first.n_features, dtype, first.names, first.weighted, origin, first.categories)
        self.n_rows = sum(source.n_rows for source in sources)

    def fingerprint(self) -> str:
        """A digest of the fingerprints of all."""
        digest = hashlib.blake2b(digest_size=16)
        for source in self._sources:
            digest.update(source.fingerprint().encode() + b"\0")
        return f"joined({self.n_rows}, {self.schema.n_features}){self.schema.dtype}-{digest.hexdigest()}"

    def chunks(self) -> Sequence[ChunkRef]:
        """The chunks of each source."""
        refs: list[ChunkRef] = []
        start, dtype = 0, self.schema.dtype
        row_nbytes = self.schema.n_features * dtype.itemsize + (8 if self.schema.weighted else 0)
        for source in self._sources:
            for base in source.chunks():
                refs.append(JoinedRef(base, len(refs), start, dtype, row_nbytes))
                start += base.rows
        return refs


def _require_alike(first: Schema, other: Schema) -> None:
    if other.n_features != first.n_features:
        raise SchemaError(
            f"{other.origin} has {other.n_features} features and {first.origin} has {first.n_features}; files that are "
            "read together need the same features"
        )
    if other.names != first.names:
        raise SchemaError(
            f"{other.origin} has the features {_told(other)} and {first.origin} {_told(first)}; choose columns that "
            "all files have with columns="
        )
    if other.weighted != first.weighted:
        raise SchemaError(f"only one of {first.origin} and {other.origin} has weights; all or none need them")


def _told(schema: Schema) -> str:
    return "without names" if schema.names is None else str(list(schema.names))
