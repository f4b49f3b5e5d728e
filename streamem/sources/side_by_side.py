"""The columns of two sources with as many rows, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Source
from streamem.sources.wrapped import WrappedRef


@dataclass(frozen=True, eq=False)
class SideRef(WrappedRef):
    """A chunk of one source, and the chunks of the other that hold these rows."""

    others: tuple[ChunkRef, ...]
    dtype: np.dtype[Any]
    row_nbytes: int

    @property
    def nbytes(self) -> int:
        """The columns of both, and 8 bytes a weight."""
        return self.rows * (self.row_nbytes + 8)

    @property
    def load_nbytes(self) -> int:
        """All chunks that are loaded, and what is made of them."""
        return self.base.load_nbytes + sum(ref.load_nbytes for ref in self.others) + self.nbytes

    @property
    def paths(self) -> tuple[str, ...]:
        """Files that any of them reads."""
        return (*self.base.paths, *(path for ref in self.others for path in ref.paths))

    @property
    def on_cluster(self) -> Mapping[Any, Any]:
        """Results on a cluster that any of them rests on."""
        return {key: value for ref in (self.base, *self.others) for key, value in ref.on_cluster.items()}

    def given(self, values: Mapping[Any, Any]) -> Self:
        """This handle, with values in place of those results."""
        others = tuple(ref.given(values) for ref in self.others)
        return replace(self, base=self.base.given(values), others=others)

    def load(self) -> Chunk:
        """The rows of both."""
        chunk, first = self.base.load(), chunk_start(self.others)
        beside = [ref.load().x for ref in self.others]
        other = beside[0] if len(beside) == 1 else np.concatenate(beside)
        own = other[self.start - first : self.start - first + self.rows]
        return replace(chunk, x=np.hstack([chunk.x.astype(self.dtype, copy=False), own.astype(self.dtype, copy=False)]))


class SideBySide(Source):
    """The columns of a source, and those of another behind them; weights are those of the first.

    Raises
    ------
    SchemaError : they have different numbers of rows
    """

    def __init__(self, base: Source, other: Source) -> None:
        if base.n_rows != other.n_rows:
            raise SchemaError(
                f"{other.schema.origin} has {other.n_rows} rows, and {base.schema.origin} has {base.n_rows}; as many "
                "are needed"
            )
        self._base, self._other, self.n_rows = base, other, base.n_rows
        width = base.schema.n_features + other.schema.n_features
        dtype = np.result_type(base.schema.dtype, other.schema.dtype)
        self.schema = replace(base.schema, n_features=width, dtype=dtype, names=None)

    def fingerprint(self) -> str:
        """The fingerprints of the two, one behind the other."""
        return f"{self._base.fingerprint()}|{self._other.fingerprint()}"

    def chunks(self) -> Sequence[SideRef]:
        """The plan of the first."""
        others = self._other.chunks()
        starts = np.array([ref.start for ref in others], dtype=np.int64)
        row_nbytes = self.schema.n_features * self.schema.dtype.itemsize
        found = []
        for ref in self._base.chunks():
            low = int(np.searchsorted(starts, ref.start, side="right")) - 1
            high = int(np.searchsorted(starts, ref.start + ref.rows, side="left"))
            found.append(SideRef(ref, tuple(others[low:high]), self.schema.dtype, row_nbytes))
        return found


def chunk_start(refs: Sequence[ChunkRef]) -> int:
    """The first row of chunks that follow each other."""
    return refs[0].start
