"""Rows of Arrow IPC files (``.arrow``, ``.feather``), memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from streamem.core.arrow_paths import mapped
from streamem.core.chunk import Chunk
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.ports import ChunkRef, Source
from streamem.sources.arrow_footer import require_one_file, rows_unread
from streamem.sources.arrow_sizes import require_possible_sizes
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.options import ReadOptions
from streamem.sources.plan import group_pieces

SAMPLED_PIECES, SAMPLED_BYTES = 16, 4096


@dataclass(frozen=True)
class IpcChunkRef(ChunkRef):
    """Record batches of a file that follow each other."""

    path: str
    batches: tuple[int, ...]
    batch_rows: tuple[int, ...]
    layout: TableLayout
    index: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.batch_rows)

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * self.layout.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """The chunk, and the largest record batch twice (as it lies in the file, and decompressed)."""
        return self.nbytes + 2 * max(self.batch_rows) * self.layout.stored_row_nbytes

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def load(self) -> Chunk:
        """Read the columns that are needed, batch by batch."""
        return gather(self.layout, self.rows, self._read(), f"chunk {self.index} of Arrow file {self.path}")

    def _read(self) -> Iterator[pa.RecordBatch]:
        with _open_file(self.path, self.layout.names) as reader:
            for number, rows in zip(self.batches, self.batch_rows, strict=True):
                yield _batch(self.path, reader, number, rows)


def _batch(path: str, reader: pa.RecordBatchFileReader, number: int, rows: int) -> pa.RecordBatch:
    what = f"record batch {number} of Arrow file {path}"
    batch = _sound(path, reader, number) if number < reader.num_record_batches else None
    if batch is None or batch.num_rows != rows:
        raise SourceChangedError(f"{what} no longer has {rows} rows: the file was rewritten; open it again")
    return batch


def _sound(path: str, reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
    """A record batch whose every value lies where it claims to lie: Arrow believes the counts and offsets of a file."""
    with _faults(f"record batch {number} of Arrow file {path}"):
        batch = reader.get_batch(number)
        batch.validate(full=True)
    return batch


@contextlib.contextmanager
def _open_file(path: str, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatchFileReader]:
    """A reader of the named columns, in a memory map."""
    with _faults(f"Arrow file {path}"), mapped(path) as file:
        if names is None:
            yield pa.ipc.open_file(file)
            return
        schema = pa.ipc.open_file(file).schema
        fields = sorted(schema.get_field_index(name) for name in names)
        yield pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False))


@contextlib.contextmanager
def _faults(what: str) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read {what}: {error}") from error


def _sampled_checksum(path: Path, size: int) -> int:
    """Checksum of up to sixteen evenly spaced pieces of the file."""
    checksum = 0
    with path.open("rb") as file:
        for number in range(SAMPLED_PIECES):
            file.seek(number * size // SAMPLED_PIECES)
            checksum = zlib.crc32(file.read(SAMPLED_BYTES), checksum)
    return checksum


class IpcSource(Source):
    """Rows of an Arrow IPC file; the unit is the record batch."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        self._path, self._chunk_bytes = path, options.chunk_bytes
        origin = f"Arrow file {path}"
        with _faults(origin):
            require_one_file(path)
        with _open_file(path) as reader:
            schema = reader.schema
            _ = schema.names  # which need not be text
        options = with_vocabularies(options, schema, partial(column_of, path), origin)
        self._layout = plan_columns(schema, options, origin, held=lambda: os.path.getsize(path))
        with _faults(origin):
            require_possible_sizes(path, schema)
        self._batch_rows = _count(path, self._layout)
        self.schema = self._layout.schema(origin)
        self.n_rows = sum(self._batch_rows)

    def fingerprint(self) -> str:
        """Size, modification time and some bytes of the file as they are now, its batches, and the columns read."""
        try:
            state = os.stat(self._path)
            sampled = _sampled_checksum(Path(self._path), state.st_size)
        except OSError as error:
            raise SourceChangedError(f"Arrow file {self._path} is gone: {error}") from error
        # Times are as coarse as the kernel's tick: a file rewritten within one differs in its bytes only.
        text = f"{state.st_size}:{state.st_mtime_ns}:{sampled}:{self._batch_rows}:{self._layout.stamp}"
        return f"arrow-{self.n_rows}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def chunks(self) -> Sequence[IpcChunkRef]:
        """Record batches, neighbours joined up to `chunk_bytes`."""
        refs: list[IpcChunkRef] = []
        start = 0
        for index, group in enumerate(group_pieces(self._batch_rows, self._layout.row_nbytes, self._chunk_bytes)):
            rows = self._batch_rows[group.start : group.stop]
            refs.append(IpcChunkRef(self._path, tuple(group), rows, self._layout, index, start))
            start += sum(rows)
        return refs


def _count(path: str, layout: TableLayout) -> tuple[int, ...]:
    """Rows of each record batch. The footer does not say so: the narrowest column is decoded.

    What would take much memory to unpack is believed, until it is loaded.
    """
    narrowest = min(layout.read, key=lambda column: column.width * column.dtype.itemsize)
    claimed = rows_unread(path, narrowest.stored_nbytes)
    with _open_file(path, [narrowest.name]) as reader:
        numbers = range(reader.num_record_batches)
        return tuple(claimed[i] if i in claimed else _sound(path, reader, i).num_rows for i in numbers)


def column_of(path: str, name: str) -> Iterator[pa.Array]:
    """The values of a column, batch by batch."""
    with _open_file(path) as reader:
        require_column(name, reader.schema.names, f"Arrow file {path}")
    with _open_file(path, [name]) as reader:
        for number in range(reader.num_record_batches):
            yield _sound(path, reader, number).column(name)
