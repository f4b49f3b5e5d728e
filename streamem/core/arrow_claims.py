"""What the compressed buffers of an Arrow message claim to hold, read from its metadata before anything is allocated.

The metadata are flatbuffers, verified by Arrow when it reads a message; fields as numbered in Arrow's Message.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from streamem.core.flatbuffers import field, follow, structs

DECODED_BYTES, DECODED_TIMES = 2**28, 32
"""What a message may hold decompressed: so many bytes, or so many times its own."""
HEADER_TYPE, HEADER = 1, 2
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
DICTIONARY_DATA = 1
LENGTH, BUFFERS, COMPRESSION = 0, 2, 3


def require_modest(message: Any) -> None:
    """Refuse a message whose buffers would be decompressed to far more than it holds.

    Raises
    ------
    ValueError : they claim more than `DECODED_BYTES` and `DECODED_TIMES` the bytes of the message
    """
    if message.body is None or not message.body.size:
        return
    claimed = claims_of(message).nbytes
    if claimed > max(DECODED_BYTES, DECODED_TIMES * message.body.size):
        raise ValueError(
            f"its {message.body.size} bytes claim to hold {claimed} bytes, decompressed; write smaller record batches"
        )


@dataclass(frozen=True)
class Claims:
    """What a message says of itself: its rows, and the bytes that its buffers decompress to (0 if they are plain)."""

    rows: int
    nbytes: int


def claims_of(message: Any) -> Claims:
    """The claims of a message.

    Raises
    ------
    ValueError : its buffers do not lie within it
    """
    try:
        return _claims(memoryview(message.metadata), memoryview(message.body or b""))
    except struct.error as error:
        raise ValueError(f"its buffers do not lie within it ({error})") from error


def _claims(metadata: memoryview, body: memoryview) -> Claims:
    root = follow(metadata, 0)
    kind = metadata[field(metadata, root, HEADER_TYPE)]
    batch = follow(metadata, field(metadata, root, HEADER))
    if kind == DICTIONARY_BATCH:
        batch = follow(metadata, field(metadata, batch, DICTIONARY_DATA))
    elif kind != RECORD_BATCH:
        return Claims(0, 0)
    at = field(metadata, batch, LENGTH)
    rows = int(struct.unpack_from("<q", metadata, at)[0]) if at else 0
    if not field(metadata, batch, COMPRESSION):
        return Claims(rows, 0)
    buffers = structs(metadata, field(metadata, batch, BUFFERS), "<qq")
    return Claims(rows, sum(_decoded(offset, length, body) for offset, length in buffers))


def _decoded(offset: int, length: int, body: memoryview) -> int:
    """The first eight bytes of a compressed buffer are the length of its content, or −1 where that is as it is."""
    if length == 0:
        return 0
    (nbytes,) = struct.unpack_from("<q", body, offset)
    return max(length, int(nbytes))
