"""Arrow streams on disk that grow: dead letters and histories, each line once, across crashes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamem.core.addresses import Address
from streamem.core.appended_parts import read_parts
from streamem.core.archive_reading import place_of
from streamem.core.errors import OutputError, WriterConflictError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class AppendedStream:
    """An Arrow IPC stream file to which record batches are appended; readable at any time.

    Parameters
    ----------
    path : the file; created if it is not there
    schema : of its record batches
    nbytes : its length when the state that is gone on from was saved; what came after is cut off, because it will come
        again. None keeps all complete record batches.
    limit : most bytes that the file may grow to, or None

    Raises
    ------
    OutputError : the file cannot be written, or is something else
    """

    def __init__(
        self, path: str | os.PathLike[str], schema: pa.Schema, nbytes: int | None = None, limit: int | None = None
    ) -> None:
        self.path, self._schema, self._limit = Path(path), schema, limit
        try:
            self._file = open(self.path, "ab")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"cannot append to {path}: {error}") from error
        try:
            self._lock()
            self._begin(nbytes)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """One process appends to a file at a time."""
        try:
            if fcntl is not None:
                fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WriterConflictError(
                f"{self.path} is being written by another process: two processes learn the same model; stop one of them"
            ) from error
        except OSError:
            pass  # a file system without locks

    def _begin(self, nbytes: int | None) -> None:
        length = self._file.tell()
        if length:
            self._file.truncate(self._complete(length, nbytes))
            self._file.seek(0, os.SEEK_END)
        elif nbytes:
            raise OutputError(
                f"{self.path} held {nbytes} bytes when the model was saved, and is empty or gone now: restore it, or "
                "name another file"
            )
        else:
            self._write(self._schema.serialize())

    def _write(self, message: pa.Buffer) -> None:
        try:
            self._file.write(message.to_pybytes())
        except OSError as error:
            raise OutputError(f"cannot append to {self.path}: {error}") from error

    def append(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write one record batch.

        Raises
        ------
        OutputError : the file would grow beyond its limit, or cannot be written; nothing was written
        """
        message = pa.RecordBatch.from_pydict(dict(columns), schema=self._schema).serialize()
        if self._limit is not None and self.length + message.size > self._limit:
            raise OutputError(
                f"{self.path} holds {self.length} bytes, and {message.size} more would exceed its limit of "
                f"{self._limit}; see what it holds (streamem.appending.read_appended). Name another file, or raise the "
                "limit (dead_letter_limit of fit_stream): the call goes on where it was, and nothing is lost"
            )
        self._write(message)

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def sync(self) -> None:
        """Make what was written survive a crash."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error}") from error

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _complete(self, length: int, nbytes: int | None) -> int:
        """Bytes up to the end of the last complete record batch, or of the last that counts."""
        try:
            with pa.OSFile(str(self.path)) as file:
                reader = pa.ipc.open_stream(file)
                if not reader.schema.equals(self._schema):
                    raise OutputError(
                        f"{self.path} is another Arrow stream, with the columns {reader.schema.names}; name another "
                        "file"
                    )
                end = file.tell()
                while nbytes is None or end < nbytes:
                    try:
                        reader.read_next_batch()
                    except (StopIteration, pa.ArrowInvalid, OSError):
                        break
                    end = file.tell()
        except pa.ArrowInvalid as error:
            raise OutputError(f"{self.path} is no Arrow stream ({error}); name another file") from error
        if nbytes is not None and end < nbytes:
            raise OutputError(
                f"{self.path} held {nbytes} bytes when the model was saved, and {length} now: it was changed; restore "
                "it, or name another file"
            )
        return end


def read_appended(path: str | os.PathLike[str]) -> pa.Table:
    """All rows of dead letters or a history: of such a file, or of the parts below an address of a store.

    Raises
    ------
    FileNotFoundError : there is none
    SourceError : a part in a store is missing or damaged, or the store refuses
    """
    place = place_of(path)
    if isinstance(place, Address):
        return read_parts(place)
    with pa.OSFile(os.fspath(place)) as file:
        return pa.ipc.open_stream(file).read_all()
