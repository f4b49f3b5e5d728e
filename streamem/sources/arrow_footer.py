"""Whether an Arrow file is one whole file: its footer knows all that lies before it."""

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


def _unknown(file: Any, start: bytes) -> int:
    """Bytes between the last message that the footer knows and the footer."""
    size = file.seek(0, 2)
    file.seek(size - 10)
    length, magic = struct.unpack("<i6s", file.read(10))
    if magic != MAGIC or not 0 < length <= size - 10:
        return 0
    at = file.seek(size - 10 - length)
    footer = memoryview(file.read(length))
    table = follow(footer, 0)
    end = 16 + struct.unpack_from("<i", start, 12)[0]  # of the schema: magic word, mark, length, metadata
    for number in (DICTIONARIES, RECORD_BATCHES):
        for offset, metadata, body in structs(footer, field(footer, table, number), BLOCK):
            end = max(end, offset + metadata + body)
    return int(at - end)
