"""Arrow IPC and JSON lines, as bytes from a file, a pipe, a socket or standard input."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from streamem.core.errors import StreamError
from streamem.core.message import Message

logger = logging.getLogger("streamem")

PARTITION = ""
ARROW_STREAM, ARROW_FILE = b"\xff", b"A"
"""First bytes: of the continuation marker, and of the magic word of files."""

STANDARD_INPUT = "-"
CONNECT_S = 10.0
LARGEST_LINE_BYTES = 64 * 2**20


class ByteStream:
    """Record batches of an Arrow IPC stream (or file), or lines of JSON; which, the first bytes tell.

    Parameters
    ----------
    where : path, "-" (standard input), "tcp://host:port", or a binary file object
    replayed : whether a pipe, socket or file object starts again from the beginning after a restart, so that what was
        learned has to be passed over; files given by their path always do
    """

    def __init__(self, where: str | os.PathLike[str] | BinaryIO, replayed: bool = False) -> None:
        self._where = where
        path = None if _is_other(where) else Path(os.fspath(where))  # type: ignore[arg-type]
        self._growing = path is not None and _is_regular(path)
        self.replayable = replayed or self._growing
        self.name = _name(where) if path is None else f"file:{path.absolute()}"

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Record batches (a position is the number of rows before) or lines (the number of lines before)."""
        known = int(positions.get(PARTITION, 0))
        with ExitStack() as closing:
            raw = self._open(closing)
            first = raw.peek(1)[:1]  # a pipe may give no more at first; JSON begins with neither
            binary = first in (ARROW_STREAM, ARROW_FILE)
            yield from self._new(self._batches(raw, first == ARROW_FILE) if binary else self._lines(raw), known)

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Nobody to tell."""

    def _new(self, found: Iterator[tuple[Any, int]], known: int) -> Iterator[Message]:
        """Passes over what was learned, where it comes again."""
        before = 0 if self.replayable else known
        for payload, records in found:
            skip = min(max(0, known - before), records)
            if skip < records:
                left = payload.slice(skip) if skip else payload
                yield Message(left, PARTITION, before + skip, before + records)
            before += records

    def _open(self, closing: ExitStack) -> io.BufferedReader:
        where = self._where
        try:
            if where == STANDARD_INPUT:
                return closing.enter_context(_standard_input())
            if isinstance(where, str) and where.startswith("tcp://"):
                host, _, port = where.removeprefix("tcp://").rpartition(":")
                if not host or not port.isdigit():
                    raise ValueError("write tcp://host:port")
                connection = closing.enter_context(socket.create_connection((host.strip("[]"), int(port)), CONNECT_S))
                connection.settimeout(None)
                return closing.enter_context(connection.makefile("rb"))
            if isinstance(where, str | os.PathLike):
                return closing.enter_context(open(where, "rb"))
        except (OSError, ValueError, OverflowError) as error:
            raise StreamError(f"cannot open the stream {where}: {error}") from error
        return _buffered(where)

    def _batches(self, raw: io.BufferedReader, seekable: bool) -> Iterator[tuple[pa.RecordBatch, int]]:
        rows = 0
        try:
            if seekable:
                reader = pa.ipc.open_file(pa.PythonFile(raw, "r") if not raw.seekable() else raw)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(raw))
            for batch in batches:
                rows += batch.num_rows
                if batch.num_rows:
                    yield batch, batch.num_rows
        except (pa.ArrowException, OSError, EOFError) as error:
            raise StreamError(
                f"{self.name} broke off after {rows} rows: {error}; if its producer died, start it again"
            ) from error

    def _lines(self, raw: io.BufferedReader) -> Iterator[tuple[bytes, int]]:
        while line := raw.readline(LARGEST_LINE_BYTES):
            if not line.endswith(b"\n") and self._growing and not _parses(line):
                logger.info("%s: the last line is not complete yet", self.name)
                return
            yield line, 1


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _is_other(where: Any) -> bool:
    """Whether it is no path."""
    return where == STANDARD_INPUT or not isinstance(where, str | os.PathLike) or str(where).startswith("tcp://")


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # opening it will say what is wrong


def _name(where: Any) -> str:
    if where == STANDARD_INPUT:
        return "standard input"
    return f"socket:{where.removeprefix('tcp://')}" if isinstance(where, str) else "byte stream"


def _standard_input() -> io.BufferedReader:
    # A file object of its own: a thread that blocks in sys.stdin would keep the interpreter from ending.
    try:
        descriptor = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):  # replaced by something without one
        return _buffered(sys.stdin.buffer)
    return open(descriptor, "rb")


def _buffered(raw: Any) -> io.BufferedReader:
    raw = getattr(raw, "buffer", raw)  # below a file that was opened as text
    return raw if hasattr(raw, "peek") else io.BufferedReader(raw)
