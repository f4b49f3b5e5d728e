"""Rows of another source, each chunk transformed where it is read: nothing is written, and nothing is held."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Source
from streamem.core.validation import require_finite
from streamem.sources.options import ReadOptions
from streamem.sources.wrapped import WrappedRef

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class About:
    """The data whose rows a source transforms, as the user passed it, and how it was opened."""

    data: Any
    options: ReadOptions


@dataclass(frozen=True, eq=False)
class RowMap:
    """What is done to the rows of a chunk.

    Attributes
    ----------
    function : picklable; from rows (n, d) to (n, width), row by row, the same bits wherever it runs
    width, dtype : of the result; dtype is float32 or float64
    names : of the new columns, or None
    missing : what of a row may be NaN; a row of NaN alone stays one
    key : a text that differs where the function does
    """

    function: Callable[[Array], Array]
    width: int
    dtype: np.dtype[Any]
    names: tuple[str, ...] | None
    missing: Missing
    key: str

    def __call__(self, x: Array) -> Array:
        """The new rows, in C order."""
        return np.ascontiguousarray(self.function(x), dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class TransformedRef(WrappedRef):
    """A chunk of another source, transformed when it is loaded."""

    rows_to_rows: RowMap
    names: tuple[str, ...] | None

    @property
    def nbytes(self) -> int:
        """The new rows, and 8 bytes a weight."""
        return self.base.rows * (self.rows_to_rows.width * self.rows_to_rows.dtype.itemsize + 8)

    @property
    def load_nbytes(self) -> int:
        """The base's peak, and the new rows twice."""
        return self.base.load_nbytes + 2 * self.nbytes

    def load(self) -> Chunk:
        """The base chunk with new rows.

        Raises
        ------
        NonFiniteError : infinity, or values that are missing where they may not be
        """
        chunk = self.base.load()
        require_finite(chunk, self.base, self.names, self.rows_to_rows.missing)
        return replace(chunk, x=self.rows_to_rows(chunk.x))


class KnownSource(Source):
    """A source beside the data that it was opened from, so that answers about its rows keep their identity.

    Attributes
    ----------
    base : the source that is read
    about : what the user passed
    """

    def __init__(self, base: Source, about: About) -> None:
        self.base, self.about = base, about
        self.schema, self.n_rows = base.schema, base.n_rows
        self.row_shape: tuple[int, ...] = tuple(getattr(base, "row_shape", ()))
        self.grid = getattr(base, "grid", None)

    def fingerprint(self) -> str:
        """The base's."""
        return self.base.fingerprint()

    def chunks(self) -> Sequence[ChunkRef]:
        """The plan of the base."""
        return self.base.chunks()

    def to_array(self) -> Array:
        """All rows in memory, (n, d)."""
        pieces = [ref.load().x for ref in self.chunks()]
        return np.concatenate([np.empty((0, self.schema.n_features), self.schema.dtype), *pieces])


class TransformedSource(KnownSource):
    """A source whose rows are made of those of another."""

    def __init__(self, base: Source, rows_to_rows: RowMap, about: About) -> None:
        super().__init__(base, about)
        self._map = rows_to_rows
        self.schema = replace(
            base.schema,
            n_features=rows_to_rows.width,
            dtype=rows_to_rows.dtype,
            names=rows_to_rows.names,
            categories=None,
        )

    def fingerprint(self) -> str:
        """The base's, and a checksum of what is done to its rows."""
        return f"{self.base.fingerprint()}-{zlib.crc32(self._map.key.encode()):08x}"

    def chunks(self) -> Sequence[TransformedRef]:
        """The plan of the base."""
        return [TransformedRef(ref, self._map, self.base.schema.names) for ref in self.base.chunks()]


def about(data: Any, options: ReadOptions) -> About:
    """What data is about, as the user passed it: data itself, or what a `KnownSource` was opened from."""
    return data.about if isinstance(data, KnownSource) else About(data, options)
