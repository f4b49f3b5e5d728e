"""Rows from a ``.npy`` file, read in slices.

Not memory-mapped: pages of a map count as memory of the process, and a file cut short under a map is a bus error,
not an exception.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import is_address
from streamem.core.chunk import Chunk, as_floats
from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.core.redaction import presentable
from streamem.machine.importing import import_whole
from streamem.sources import array
from streamem.sources.numeric import numeric_dtype
from streamem.sources.options import ReadOptions
from streamem.sources.plan import even_cuts


@dataclass(frozen=True)
class NpyFile:
    """What the header of a file says; values are stored row by row, or (fortran) column by column."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop − 1 of a two-dimensional file: (stop − start, d), as stored.

        Raises
        ------
        SourceError : the file is gone or has been cut short
        """
        n, d = self.shape
        try:
            with open_binary(self.path) as file:
                if not self.fortran:
                    return self._slice(file, start * d, (stop - start) * d).reshape(-1, d)
                return np.stack([self._slice(file, j * n + start, stop - start) for j in range(d)], axis=1)
        except OSError as error:
            raise SourceError(f"NumPy file {self.path}: rows {start}–{stop - 1} cannot be read: {error}") from error

    def _slice(self, file: Any, first: int, count: int) -> NDArray[Any]:
        file.seek(self.offset + first * self.dtype.itemsize)
        values = np.fromfile(file, dtype=self.dtype, count=count)
        if len(values) < count:
            raise SourceError(f"NumPy file {self.path} is truncated: {len(values)} of {count} values at {first}")
        return values


@dataclass(frozen=True)
class NpyChunkRef(ChunkRef):
    """Rows start … start + rows − 1 of a file."""

    file: NpyFile
    dtype: np.dtype[Any]
    index: int
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded chunk."""
        return self.rows * self.file.shape[1] * self.dtype.itemsize

    @property
    def load_nbytes(self) -> int:
        """The rows as read, and the rows converted where their dtype has to change."""
        if self.dtype == self.file.dtype and not self.file.fortran:
            return self.nbytes
        return self.nbytes + self.rows * self.file.shape[1] * self.file.dtype.itemsize * (2 if self.file.fortran else 1)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.file.path,)

    def load(self) -> Chunk:
        """Read and convert the rows."""
        rows = self.file.read(self.start, self.start + self.rows)
        return Chunk(as_floats(rows, self.dtype))


class NpySource(Source):
    """Rows of a two-dimensional file."""

    def __init__(self, file: NpyFile, options: ReadOptions, origin: str) -> None:
        self._file = file
        dtype = numeric_dtype(file.dtype, origin)
        self.schema = Schema(file.shape[1], dtype, None, weighted=False, origin=origin)
        self.n_rows = file.shape[0]
        d = file.shape[1]
        self._chunk_bytes = options.array_chunk_bytes(self.n_rows, d, d * dtype.itemsize)

    def fingerprint(self) -> str:
        """Shape, dtype, size and modification time."""
        try:
            found = os.stat(self._file.path)
        except OSError as error:
            raise SourceError(f"{self.schema.origin} is gone: {error}") from presentable(error)
        return f"npy{self._file.shape}{self._file.dtype}-{found.st_size}-{found.st_mtime_ns}"

    def chunks(self) -> Sequence[NpyChunkRef]:
        """Even cuts (`ReadOptions.array_chunk_bytes`)."""
        dtype = self.schema.dtype
        cuts = even_cuts(self.n_rows, self.schema.n_features * dtype.itemsize, self._chunk_bytes)
        return [NpyChunkRef(self._file, dtype, i, a, b - a) for i, (a, b) in enumerate(cuts)]


def open_binary(path: str) -> Any:
    """The file, without a buffer of its own."""
    return Path(path).open("rb", buffering=0)


def open(data: Any, options: ReadOptions) -> Source:
    """The path or address of a ``.npy`` file; a file whose features are not its last axis is memory-mapped.

    Raises
    ------
    SourceError : it is no such file, or truncated
    SchemaError : it is not numeric, or has another number of axes than two and no feature axis
    """
    if is_address(data):
        far: Source = import_whole("streamem.sources.npy_far").open(data, options)
        return far
    path, origin = Path(data), f"NumPy file {data}"
    file = _header(path)
    array.refuse_names(options, origin)
    if len(file.shape) != 2 or options.feature_axis not in (None, 1, -1):
        mapped = array.memory_map(path)
        rows = array.rows_by_features(mapped, options.feature_axis, origin)
        axes = array.row_shape(mapped, options.feature_axis)
        return array.ArraySource(rows, options, origin, row_shape=axes)
    return NpySource(file, options, origin)


def shape_of(data: Any, options: ReadOptions) -> tuple[int, ...]:
    """The axes of a file."""
    if is_address(data):
        shape: tuple[int, ...] = import_whole("streamem.sources.npy_far").file_at(data).shape
        return shape
    return _header(Path(data)).shape


def _header(path: Path) -> NpyFile:
    try:
        with path.open("rb") as stream:
            offset, shape, fortran, dtype = header_of(stream, f"NumPy file {path}")
        found = path.stat().st_size
    except OSError as error:
        raise SourceError(f"cannot read NumPy file {path}: {error}") from presentable(error)
    if found < (needed := needed_nbytes(offset, shape, dtype)):
        raise SourceError(f"NumPy file {path} is truncated: {found} of {needed} bytes")
    return NpyFile(str(path), offset, shape, dtype, fortran)


def header_of(stream: Any, what: str) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Where the values of a file begin, their shape, whether they are stored by columns, and their dtype.

    Raises
    ------
    SourceError : it is no such file
    SchemaError : it holds Python objects
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError) as error:
        raise SourceError(f"cannot read {what}: {error}") from presentable(error)
    if dtype.hasobject:
        raise SchemaError(f"{what} holds Python objects; numbers are needed")
    return stream.tell(), shape, fortran, dtype


def needed_nbytes(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of a whole file."""
    return offset + math.prod(shape) * dtype.itemsize
