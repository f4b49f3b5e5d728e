"""What streams deliver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KEPT_BYTES = 2**20
"""Of an unusable payload."""


@dataclass(frozen=True, eq=False)
class Message:
    """Something that arrived: one record, or many.

    Attributes
    ----------
    payload : pyarrow RecordBatch or Table, data frame, array (n, d), mapping of names to numbers, list of such
        mappings, or bytes of an Arrow IPC stream or of JSON (an object, a list of objects, or a list of numbers); None
        if the message is there and holds nothing, as a tombstone of Kafka: it is passed over and counted
    partition : the part of the stream that it belongs to, within which messages are in order
    at, after : positions in that partition, as JSON values: a stream that starts at `at` delivers this message first,
        one that starts at `after` the next one
    headers : (name, bytes) pairs that came beside the payload, for a decoder that asks them
    """

    payload: Any
    partition: str
    at: Any
    after: Any
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True)
class Damaged:
    """A payload that could not even be read, such as a file without an end.

    Attributes
    ----------
    reason, data : why, and its own bytes if they can be had, as far as they fit `KEPT_BYTES`
    records : how many records it is known to hold; 1 where that is not known
    """

    reason: str
    data: bytes = b""
    records: int = 1
