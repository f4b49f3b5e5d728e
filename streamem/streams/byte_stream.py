"""Arrow IPC and JSON lines, as bytes from a file, a pipe, a socket or standard input."""

from __future__ import annotations

import io
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

from streamem.core.errors import StreamemError, StreamError
from streamem.core.formats import BYTE_ORDER_MARK, SEPARATOR, foreign_format, table_of_text
from streamem.core.json_text import parse_json
from streamem.core.message import KEPT_BYTES, Damaged, Message
from streamem.core.ports import Stream
from streamem.core.redaction import presentable, redacted
from streamem.streams.arrow_bytes import CONTINUATION, FILE, UNREADABLE, arrow_batches
from streamem.streams.byte_reader import ByteReader

logger = logging.getLogger("streamem")

PARTITION = ""
STANDARD_INPUT = "-"
CONNECT_S = 10.0
LARGEST_LINE_BYTES = 64 * 2**20


class ByteStream(Stream):
    """Record batches of Arrow IPC streams (or files), or lines of JSON: the first bytes decide which.

    Arrow streams may follow each other, as ``cat a.arrows b.arrows`` gives them: of the same columns, and nothing else
    may lie between or behind them. A record batch that is not what it claims to be is one unusable record.

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
        self.name = _name(where) if path is None else redacted(f"file:{path.absolute()}")

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Record batches (a position is the number of rows before) or lines (the number of lines before)."""
        known = int(positions.get(PARTITION, 0))
        with ExitStack() as closing:
            raw = ByteReader(self._open(closing))
            try:
                yield from self._new(self._batches(raw) if _is_arrow(raw) else self._lines(raw), known)
            except (StreamemError, MemoryError):
                raise
            except Exception as error:  # of whatever file object reads here
                raise StreamError(f"{self.name} cannot be read: {type(error).__name__}: {error}") from error

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Do nothing: bytes have no server that counts what was read."""

    def _new(self, found: Iterator[tuple[Any, int]], known: int) -> Iterator[Message]:
        """Messages after the given position: a stream that begins anew repeats those that were learned."""
        before = 0 if self.replayable else known
        for payload, records in found:
            skip = min(max(0, known - before), records)
            if skip < records:
                left = payload.slice(skip) if skip else payload
                yield Message(left, PARTITION, before + skip, before + records)
            before += records
        if self.replayable and before < known:
            raise StreamError(
                f"{self.name} ends after {before} records, and {known} of it were learned: it was cut or written anew. "
                "Restore it, or give what is new another name"
            )

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
            raise StreamError(f"cannot open the stream {where}: {error}") from presentable(error)
        return _buffered(where)

    def _batches(self, raw: ByteReader) -> Iterator[tuple[pa.RecordBatch | Damaged, int]]:
        rows = 0
        try:
            for batch in arrow_batches(raw):
                records = 1 if isinstance(batch, Damaged) else batch.num_rows
                rows += records
                if records:
                    yield batch, records
        except StreamError as error:
            raise StreamError(f"{self.name}, after {rows} rows: {error}") from error
        except UNREADABLE as error:
            raise StreamError(
                f"{self.name} broke off after {rows} rows: {error}; if its producer died, start it again"
            ) from error

    def _lines(self, raw: ByteReader) -> Iterator[tuple[bytes | Damaged, int]]:
        first = self._line(raw)
        self._require_records(first, raw)
        line: bytes | Damaged = first
        while line:
            if isinstance(line, bytes) and not line.endswith(b"\n") and self._growing and not _parses(line):
                logger.info("%s: the last line is not complete yet", self.name)
                return
            yield line, 1
            line = self._line(raw)

    def _line(self, raw: ByteReader) -> Any:
        """The next line, `Damaged` if it is too long, nothing at the end."""
        line = raw.readline(LARGEST_LINE_BYTES)
        if len(line) < LARGEST_LINE_BYTES or line.endswith(b"\n"):
            return line
        start, length = line[:KEPT_BYTES], len(line)
        while line and not line.endswith(b"\n"):  # its rest is no record, whatever it looks like
            line = raw.readline(LARGEST_LINE_BYTES)
            length += len(line)
        return Damaged(f"a line of {length} bytes; at most {LARGEST_LINE_BYTES} are read at once; send Arrow", start)

    def _require_records(self, first: Any, raw: ByteReader) -> None:
        """Name the format of what is neither Arrow nor JSON."""
        if not isinstance(first, bytes) or first.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] in (b"", b"{", b"["):
            return
        told = foreign_format(first)
        if told is None and SEPARATOR.search(first):
            told = table_of_text(first, raw.peek_line(LARGEST_LINE_BYTES))
        if told is not None:
            raise StreamError(f"{self.name} holds {told}")


def _is_arrow(raw: ByteReader) -> bool:
    """Whether Arrow comes; a pipe may give no more than one byte at first, and JSON begins with none of theirs."""
    first = raw.peek(1)
    if first and first in (CONTINUATION[:1], FILE[:1]):
        start = raw.peek(len(FILE))
        return start.startswith((CONTINUATION, FILE)) or (len(start) < len(FILE) and CONTINUATION.startswith(start[:4]))
    return False


def _parses(line: bytes) -> bool:
    try:
        parse_json(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_other(where: Any) -> bool:
    """Whether the address names something other than a path."""
    return where == STANDARD_INPUT or not isinstance(where, str | os.PathLike) or str(where).startswith("tcp://")


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # opening it will say what is wrong


def _name(where: Any) -> str:
    if where == STANDARD_INPUT:
        return "standard input"
    return f"socket:{redacted(where).removeprefix('tcp://')}" if isinstance(where, str) else "byte stream"


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
