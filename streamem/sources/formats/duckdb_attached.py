"""DuckDB files that this process reads in many small queries: attached to one database in memory while they are read.

To start a database takes DuckDB 17 ms of a processor, and to attach a file to one that runs half a millisecond.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from threading import Lock
from typing import Any

from streamem.core.errors import SourceError
from streamem.sources.formats.libraries import library

SETTINGS = {"threads": 1, "memory_limit": "256MiB"}
"""Queries run in the threads that ask them; the memory is that of the cache of blocks, and reading takes far less."""


def duckdb_for(path: str) -> Any:
    """The library, which reading a file needs."""
    return library("duckdb", "duckdb", f"DuckDB file {path}")


def cannot_open(path: str, error: Exception) -> SourceError:
    """The error about a file that DuckDB does not open, with the remedy where somebody else has it."""
    taken = any(word in str(error) for word in ("configuration", "lock", "handle conflict"))
    remedy = (
        "; this process or another has it open: close it there, or pass a relation of the open connection, "
        "connection.table('name')"
    )
    return SourceError(f"cannot open DuckDB file {path}: {error}{remedy if taken else ''}")


class _Attached:
    """A database in memory, and the files that are attached to it: each once, as long as anybody reads it.

    A file is let go by the last of its readers, so that others may write it between passes.
    """

    def __init__(self) -> None:
        self._lock, self._number = Lock(), count()
        self._database: Any = None
        self._readers: dict[str, tuple[str, int]] = {}

    @contextlib.contextmanager
    def read(self, path: str) -> Iterator[tuple[Any, str]]:
        """A connection of this thread's own, and the name under which it sees the file."""
        file = os.path.realpath(path)
        with self._lock:
            name, readers = self._readers.get(file) or (self._attach(path, file), 0)
            self._readers[file] = name, readers + 1
            connection = self._database.cursor()
        try:
            with contextlib.closing(connection):
                yield connection, name
        finally:
            with self._lock:
                _, readers = self._readers.pop(file)
                if readers > 1:
                    self._readers[file] = name, readers - 1
                else:
                    self._database.execute(f"DETACH {name}")

    def _attach(self, path: str, file: str) -> str:
        duckdb, name, quoted = duckdb_for(path), f"file{next(self._number)}", file.replace("'", "''")
        try:
            if self._database is None:
                self._database = duckdb.connect(":memory:", config=SETTINGS)
            self._database.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY, TYPE duckdb)")
        except Exception as error:
            raise cannot_open(path, error) from error
        return name


_ATTACHED = _Attached()


def reading(path: str) -> contextlib.AbstractContextManager[tuple[Any, str]]:
    """A connection that reads a file, and the name in SQL of the database that the file is there.

    Raises
    ------
    SourceError : the file cannot be opened
    """
    return _ATTACHED.read(path)


def _begin_anew() -> None:
    global _ATTACHED  # a child process has none of its parent's connections
    _ATTACHED = _Attached()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
