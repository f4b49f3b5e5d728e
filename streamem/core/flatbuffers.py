"""Numbers within flatbuffers, in which Arrow keeps its metadata: tables whose fields are found by number."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def follow(data: memoryview, at: int) -> int:
    """Where an offset that lies there points to."""
    return at + int(struct.unpack_from("<I", data, at)[0])


def field(data: memoryview, table: int, number: int) -> int:
    """Where a field of a table lies; 0 if the table does not have it."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + 4 + 2 * number)
    return table + offset if offset else 0


def structs(data: memoryview, at: int, layout: str) -> Iterator[tuple[int, ...]]:
    """The elements of a vector to which an offset points that lies there; none if `at` is 0."""
    if not at:
        return iter(())
    vector = follow(data, at)
    (count,) = struct.unpack_from("<I", data, vector)
    return struct.iter_unpack(layout, data[vector + 4 : vector + 4 + struct.calcsize(layout) * count])
