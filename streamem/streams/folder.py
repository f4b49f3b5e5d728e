"""A folder into which Parquet files are put."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamem.core.arrow_paths import mapped
from streamem.core.data_folders import LakeTable, is_hidden, table_around_local, table_at
from streamem.core.errors import StreamError
from streamem.core.message import Damaged, Message
from streamem.core.parquet_pages import require_modest_pages
from streamem.core.ports import Stream

logger = logging.getLogger("streamem")

PARTITION = ""
POLL_S = 0.5


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    modified_ns: int


class FolderStream(Stream):
    """Row groups of Parquet files, file after file as they appear, the oldest first.

    A file is read once, when it is complete, and recognized by its name later: write new data under new names, best
    under a hidden name (".x" or "_x") that is renamed at the end. Files that were read may be removed.

    Parameters
    ----------
    path : the folder; subfolders are watched too. Tables of Delta Lake, Iceberg and Hudi are refused
    columns : to read; None reads all
    follow : whether to wait for more files when all have been read
    patience_s : how long a file without a valid end may stay unchanged before it is unusable
    """

    replayable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        follow: bool = True,
        patience_s: float = 60.0,
    ) -> None:
        self._path = Path(path)
        self._columns, self._follow, self._patience_s = columns, follow, patience_s
        self.name = f"folder:{self._path.absolute()}"
        self._incomplete: dict[str, tuple[_File, float]] = {}
        self._refuse(table_around_local(str(self._path)))

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Row groups; a position holds the names of the files that were read, and the row group of the present one."""
        position = positions.get(PARTITION) or {"done": [], "file": None, "group": 0}
        done, at = set(position["done"]), position
        while True:
            files = self._scan()
            names = {file.name for file in files}
            done &= names
            if at["file"] is not None and at["file"] not in names:
                raise StreamError(
                    f"{self.name}: the file {at['file']} was read up to row group {at['group']} and is gone; put it "
                    "back, so that nothing is lost"
                )
            pending = sorted((f for f in files if f.name not in done), key=lambda f: (f.name != at["file"], _age(f)))
            came = False
            for file in pending:
                for message in self._read(file, done, at["group"] if file.name == at["file"] else 0):
                    came, at = True, message.after
                    yield message
                done = set(at["done"])
            if not came:
                if not self._follow and not self._incomplete:
                    return
                yield None
                time.sleep(POLL_S)

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Do nothing: a folder has no server that counts what was read."""

    def lag(self, positions: Mapping[str, Any]) -> int | None:
        """Files that were not read to their end."""
        done = set((positions.get(PARTITION) or {"done": []})["done"])
        return sum(file.name not in done for file in self._scan())

    def _scan(self) -> list[_File]:
        found = []
        try:
            for folder, folders, names in os.walk(self._path, onerror=_raise):
                self._refuse(table_at(folder, folders, names))
                folders[:] = [name for name in folders if not is_hidden(name)]
                for name in names:
                    if name.endswith(".parquet") and not is_hidden(name):
                        path = Path(folder) / name
                        try:
                            state = path.stat()
                        except FileNotFoundError:
                            continue
                        found.append(_File(str(path.relative_to(self._path)), state.st_size, state.st_mtime_ns))
        except StreamError:
            raise
        except OSError as error:
            raise StreamError(f"cannot list the folder {self._path}: {error}") from error
        return found

    def _refuse(self, table: LakeTable | None) -> None:
        if table is not None:
            raise StreamError(f"{table.refusal(str(self._path))}. As a stream, pass an iterator of its record batches")

    def _read(self, file: _File, done: set[str], first: int) -> Iterator[Message]:
        """The row groups from the first on; nothing if the file is not complete yet."""
        here = sorted(done)
        after = {"done": sorted({*done, file.name}), "file": None, "group": 0}
        group, left = first, 1
        try:
            with _opened(self._path / file.name) as reader:
                self._incomplete.pop(file.name, None)
                count = reader.num_row_groups
                if first and first >= count:
                    raise StreamError(
                        f"{self.name}: of the file {file.name}, {first} row groups were learned and more were there; "
                        f"now it has {count}: it was rewritten. Restore it, and write new data under new names"
                    )
                left = sum(reader.metadata.row_group(i).num_rows for i in range(first, count))
                for group in range(first, count):
                    self._require_unchanged(file)
                    names = self._present(reader)
                    wanted = reader.schema_arrow.names if names is None else names
                    require_modest_pages(str(self._path / file.name), reader.metadata, group, wanted)
                    table = reader.read_row_group(group, columns=names, use_threads=False)
                    left -= table.num_rows
                    at = {"done": here, "file": file.name, "group": group}
                    last = group == count - 1
                    yield Message(table, PARTITION, at, after if last else {**at, "group": group + 1})
                if count == 0:
                    at = {"done": here, "file": file.name, "group": 0}
                    yield Message(pa.table({}), PARTITION, at, after)
        except FileNotFoundError:
            return
        except StreamError:  # which is an OSError too
            raise
        except (pa.ArrowException, OSError, EOFError) as error:
            if self._given_up(file):
                at = {"done": here, "file": file.name, "group": group}
                damaged = Damaged(f"Parquet file {file.name} cannot be read: {error}", records=left)
                yield Message(damaged, PARTITION, at, after)

    def _present(self, reader: pq.ParquetFile) -> list[str] | None:
        """The chosen columns that the file has; the decoder says what is missing."""
        if self._columns is None:
            return None
        there = set(reader.schema_arrow.names)
        return [name for name in self._columns if name in there]

    def _given_up(self, file: _File) -> bool:
        """Whether a file that cannot be read has not changed for long enough."""
        known, since = self._incomplete.get(file.name, (None, 0.0))
        if known != file:
            self._incomplete[file.name] = (file, time.monotonic())
            logger.info("%s: %s is not complete yet", self.name, file.name)
            since = time.monotonic()
        if time.monotonic() - since < self._patience_s:
            return False
        del self._incomplete[file.name]
        return True

    def _require_unchanged(self, file: _File) -> None:
        state = (self._path / file.name).stat()
        if (state.st_size, state.st_mtime_ns) != (file.size, file.modified_ns):
            raise StreamError(
                f"{self.name}: the file {file.name} was rewritten while it was read; write new data under new names"
            )


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file, also if its name is no UTF-8."""
    try:
        return pq.ParquetFile(path)
    except UnicodeEncodeError:
        return pq.ParquetFile(mapped(path))


def _age(file: _File) -> tuple[int, str]:
    return file.modified_ns, file.name


def _raise(error: OSError) -> None:
    raise error
