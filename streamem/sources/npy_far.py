"""Rows from a ``.npy`` file at an address: ranges of the object, each of the version that was seen first."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk, as_floats
from streamem.core.errors import SchemaError, SourceChangedError, SourceError
from streamem.core.object_requests import Piece, fetch_all, shortened
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.core.retrying import patiently
from streamem.sources import array
from streamem.sources.formats.places import Place, place_at
from streamem.sources.npy import header_of, needed_nbytes
from streamem.sources.numeric import numeric_dtype
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_footers import fsspec_of, is_far, store_of
from streamem.sources.plan import even_cuts

HEADER_NBYTES = 2**16
"""What is read to know a file: a header of NumPy's is 128 bytes, and of a dtype with names seldom more than these."""


@dataclass(frozen=True)
class FarNpyFile:
    """What the header of a file says, and which version of the file it was.

    Attributes
    ----------
    place : where it lies
    etag : of the object; "" where its store tells none
    offset : bytes before the values
    fortran : whether values are stored column by column
    """

    place: Place
    etag: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def origin(self) -> str:
        """The file in words."""
        return f"NumPy file {self.place.shown}"

    @property
    def width(self) -> int:
        """Values of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Bytes of rows start … stop − 1: one range, or one a column."""
        n, size = self.shape[0], self.dtype.itemsize
        if not self.fortran or self.width == 1:
            return [(self.offset + start * self.width * size, self.offset + stop * self.width * size)]
        return [(self.offset + (j * n + start) * size, self.offset + (j * n + stop) * size) for j in range(self.width)]

    def fetch(self, start: int, stop: int) -> list[Any]:
        """The stored bytes of rows start … stop − 1.

        Raises
        ------
        SourceChangedError : the file was rewritten, truncated or removed since it was opened
        SourceError : the store refuses
        """
        spans = self.spans(start, stop)
        found = [content for content, _ in fetch_spans(self.place, spans, self.etag)]
        for content, (first, last) in zip(found, spans, strict=True):
            if len(content) != last - first:
                raise SourceChangedError(f"{self.origin} ends before byte {last}; it was longer when it was opened")
        return found

    def rows_of(self, contents: Sequence[Any]) -> NDArray[Any]:
        """Rows (rows, …) of their stored bytes, as stored."""
        columns = [np.frombuffer(content, self.dtype) for content in contents]
        return columns[0].reshape(-1, *self.shape[1:]) if len(columns) == 1 else np.stack(columns, axis=1)

    # --- as weights -------------------------------------------------------------------------------------------------

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop − 1."""
        return self.rows_of(self.fetch(start, stop))

    def part(self, start: int, stop: int) -> FarNpyFile:
        """This file as a whole: an address is little to send."""
        return self

    def fingerprint(self) -> str:
        """Shape, dtype and what the store says of the object now."""
        return f"npy{self.shape}{self.dtype}-{self.place.stamp('NumPy file')}"


@dataclass(frozen=True, eq=False)
class FarNpyChunkRef(ChunkRef):
    """Rows start … start + rows − 1 of a file; `held` are their bytes, once they were fetched."""

    file: FarNpyFile
    dtype: np.dtype[Any]
    index: int
    start: int
    rows: int
    held: tuple[Any, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded chunk."""
        return self.rows * self.file.width * self.dtype.itemsize

    @property
    def load_nbytes(self) -> int:
        """The stored bytes, the rows of a file by columns, and the rows converted."""
        stored = self.rows * self.file.width * self.file.dtype.itemsize
        return self.nbytes + stored * (2 if self.file.fortran else 1)

    def fetches(self) -> tuple[int, int]:
        """A request, or one a column."""
        if not is_far(self.file.place.filesystem):
            return 0, 0
        return len(self.file.spans(0, 1)), self.rows * self.file.width * self.file.dtype.itemsize

    def fetched(self) -> FarNpyChunkRef:
        """This handle with the stored bytes in memory."""
        return replace(self, held=tuple(self._contents()))

    def load(self) -> Chunk:
        """Read and convert the rows."""
        return Chunk(as_floats(self.file.rows_of(self._contents()), self.dtype))

    def _contents(self) -> Sequence[Any]:
        return self.held or self.file.fetch(self.start, self.start + self.rows)


class FarNpySource(Source):
    """Rows of a two-dimensional file."""

    def __init__(self, file: FarNpyFile, options: ReadOptions) -> None:
        self._file = file
        dtype = numeric_dtype(file.dtype, file.origin)
        self.schema = Schema(file.shape[1], dtype, None, weighted=False, origin=file.origin)
        self.n_rows = file.shape[0]
        self._chunk_bytes = options.array_chunk_bytes(self.n_rows, file.width, file.width * dtype.itemsize)

    def fingerprint(self) -> str:
        """Shape, dtype and what the store says of the object."""
        return self._file.fingerprint()

    def chunks(self) -> Sequence[FarNpyChunkRef]:
        """Even cuts (`ReadOptions.array_chunk_bytes`)."""
        dtype = self.schema.dtype
        cuts = even_cuts(self.n_rows, self.schema.n_features * dtype.itemsize, self._chunk_bytes)
        return [FarNpyChunkRef(self._file, dtype, i, a, b - a) for i, (a, b) in enumerate(cuts)]


def open(data: str | os.PathLike[str], options: ReadOptions) -> Source:
    """The address of a ``.npy`` file of rows × features.

    Raises
    ------
    SourceError : it is no such file, or truncated
    SchemaError : it is not numeric, or its features are not the last of two axes
    """
    file = file_at(data)
    array.refuse_names(options, file.origin)
    if len(file.shape) != 2 or options.feature_axis not in (None, 1, -1):
        raise SchemaError(
            f"{file.origin} has shape {file.shape}; at an address, files of rows × features are read, features as the "
            "last axis: write it so, or as Zarr, whose feature_axis may be any"
        )
    return FarNpySource(file, options)


def file_at(data: str | os.PathLike[str]) -> FarNpyFile:
    """The header of a file at an address.

    Raises
    ------
    SourceError : it is not there, is no such file, or truncated
    SchemaError : it holds Python objects
    """
    place = place_at(data)
    what = f"NumPy file {place.shown}"
    size = _size(place)
    content, etag = fetch_spans(place, [(0, min(size, HEADER_NBYTES))], "")[0] if size else (b"", "")
    offset, shape, fortran, dtype = header_of(io.BytesIO(content), what)
    file = FarNpyFile(place, etag, offset, shape, dtype, fortran)
    if size < needed_nbytes(offset, shape, dtype):
        raise SourceError(f"{what} is truncated: {size} of {needed_nbytes(offset, shape, dtype)} bytes")
    return file


def fetch_spans(place: Place, spans: Sequence[tuple[int, int]], etag: str) -> list[tuple[Any, str]]:
    """Bytes and ETag of a file, for each range.

    Raises
    ------
    SourceChangedError : the file is gone, shorter, or has another ETag than was said
    SourceError : the store refuses
    """
    gone = f"NumPy file {place.shown} is gone; it was there when the data was opened"
    if (found := store_of(place.filesystem, place.path)) is not None:
        store, key = found
        pieces = [Piece(key, first, stop, etag) for first, stop in spans]
        fetched = fetch_all(store, pieces, place.shown.removesuffix(key))
        if any(each is None for each in fetched):
            raise SourceChangedError(gone)
        return [(each.content, each.etag) for each in fetched if each is not None]
    inner, path = fsspec_of(place.filesystem), place.path
    firsts, stops = map(list, zip(*spans, strict=True))
    try:
        contents = patiently(lambda: inner.cat_ranges([path] * len(spans), firsts, stops, on_error="raise"))
    except FileNotFoundError:
        raise SourceChangedError(gone) from None
    except OSError as error:
        raise SourceError(f"NumPy file {place.shown} cannot be read: {shortened(error)}") from error
    return [(content, "") for content in contents]


def _size(place: Place) -> int:
    inner = fsspec_of(place.filesystem)
    try:
        return int(patiently(lambda: inner.info(place.path))["size"] or 0)
    except FileNotFoundError:
        raise SourceError(f"no such object: NumPy file {place.shown}") from None
    except Exception as error:
        raise SourceError(f"NumPy file {place.shown} cannot be read: {shortened(error)}") from error
