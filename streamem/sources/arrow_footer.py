"""The footer of an Arrow file: whether it lists all that lies before it, and how many rows are still packed."""

from __future__ import annotations

import struct
from typing import Any

from streamem.core.errors import SourceError
from streamem.core.flatbuffers import field, follow, structs

MAGIC, CONTINUATION = b"ARROW1", b"\xff\xff\xff\xff"
SLACK = 72
"""Bytes between the last message and the footer: the mark of the end, and padding to 64 bytes."""
DICTIONARIES, RECORD_BATCHES = 2, 3
"""Fields of a Footer in Arrow's File.fbs."""
HEADER, LENGTH, COMPRESSION = 2, 0, 3
"""Fields of a Message, and of a RecordBatch, in Arrow's Message.fbs."""
MUCH_BYTES, MOST_TIMES = 2**26, 2**16
"""A column is unpacked for a count up to so many bytes; no codec of Arrow packs more than so many times as much."""
BLOCK = "<qi4xq"
"""Offset, and lengths of metadata and body, of one message."""


def require_one_file(path: str) -> None:
    """Refuse files that were appended to each other: readers find the last footer, and count from the first byte.

    Raises
    ------
    SourceError : they were, or it is a stream and not a file
    """
    with open(path, "rb") as file:
        start = file.read(16)
        if start.startswith(CONTINUATION):
            raise SourceError(
                f"{path} holds an Arrow stream, not an Arrow file, so its record batches cannot be found one by one: "
                "fit_stream reads it from its beginning to its end; for fit, write it with pyarrow.ipc.new_file"
            )
        try:
            missing = _unknown(file, start)
        except (struct.error, OSError, IndexError):
            return  # Arrow itself says what is wrong
    if missing > SLACK:
        raise SourceError(
            f"Arrow file {path} holds {missing} bytes that its footer does not know: several files were appended to "
            "each other. fit_stream reads all of them; for fit, keep them apart or write one file"
        )


def rows_unread(path: str, row_nbytes: int) -> dict[int, int]:
    """Rows of compressed record batches, as they claim, that would be much to unpack at so many bytes a row.

    Rows that no compression could have made of the bytes that are there are left to be unpacked, and found out.
    """
    with open(path, "rb") as file:
        try:
            claims = [_claim(file, *block) for block in _footer(file)[1].get(RECORD_BATCHES, ())]
        except (struct.error, OSError, IndexError):
            return {}
    return {
        i: rows
        for i, (rows, compressed, nbytes) in enumerate(claims)
        if compressed and MUCH_BYTES < rows * row_nbytes <= MOST_TIMES * nbytes
    }


def message_places(path: str, kind: int) -> list[int]:
    """Where the record batches, or the dictionaries, of a file begin; none if Arrow will not read its footer."""
    with open(path, "rb") as file:
        try:
            return [place for place, _, _ in _footer(file)[1].get(kind, ())]
        except (struct.error, OSError, IndexError):
            return []


def _claim(file: Any, offset: int, metadata: int, body: int) -> tuple[int, bool, int]:
    """Rows of a record batch, whether it is compressed, and its bytes."""
    file.seek(offset + 8)
    message = memoryview(file.read(metadata - 8))
    batch = follow(message, field(message, follow(message, 0), HEADER))
    length = field(message, batch, LENGTH)
    rows = struct.unpack_from("<q", message, length)[0] if length else 0
    return rows, bool(field(message, batch, COMPRESSION)), body


def _unknown(file: Any, start: bytes) -> int:
    """Bytes between the last message that the footer knows and the footer."""
    at, blocks = _footer(file)
    end = 16 + struct.unpack_from("<i", start, 12)[0]  # of the schema: magic word, mark, length, metadata
    for offset, metadata, body in (block for kind in blocks.values() for block in kind):
        end = max(end, offset + metadata + body)
    return int(at - end) if blocks else 0


def _footer(file: Any) -> tuple[int, dict[int, list[tuple[int, ...]]]]:
    """Where the footer begins, and the blocks of dictionaries and record batches; none if it is no Arrow file."""
    size = file.seek(0, 2)
    file.seek(size - 10)
    length, magic = struct.unpack("<i6s", file.read(10))
    if magic != MAGIC or not 0 < length <= size - 10:
        return 0, {}
    at = file.seek(size - 10 - length)
    footer = memoryview(file.read(length))
    table = follow(footer, 0)
    kinds = (DICTIONARIES, RECORD_BATCHES)
    return at, {kind: list(structs(footer, field(footer, table, kind), BLOCK)) for kind in kinds}
