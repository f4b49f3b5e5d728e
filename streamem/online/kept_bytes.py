"""What a dead letter keeps of a record: its own bytes as far as they fit, however strange the record is."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamem.core.message import KEPT_BYTES

BETWEEN = re.compile(r"[ \t\n\r]*,?[ \t\n\r]*")
"""Elements of a JSON list."""
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 3, 100, 100, 60


def shown(value: Any) -> str:
    """A value as messages show it: short, also where it is long, nested deeply, or holds itself."""
    return f"{SHORT.repr(value):.100}"


def bytes_at(payload: Any, record: int, row: NDArray[Any]) -> bytes:
    """One record of a payload of many, as JSON; nothing where that would be larger than what is kept."""
    if isinstance(payload, Sequence) and record < len(payload):
        return bytes_of(payload[record])
    if isinstance(payload, pa.RecordBatch | pa.Table):
        if payload.get_total_buffer_size() > KEPT_BYTES * payload.num_rows:
            return b""
        try:
            return bytes_of(payload.slice(record, 1).to_pylist()[0])
        except ValueError:  # text that is none
            pass
    return bytes_of(row[:KEPT_BYTES].tolist())


def bytes_of(payload: Any) -> bytes:
    """A payload as bytes: its own, or Arrow, or JSON."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload[:KEPT_BYTES])
    if isinstance(payload, str):
        return payload[:KEPT_BYTES].encode("utf-8", "surrogatepass")[:KEPT_BYTES]
    if isinstance(payload, pa.RecordBatch | pa.Table):
        return _arrow_of(payload)
    if isinstance(payload, np.ndarray):
        payload = payload.ravel()[:KEPT_BYTES].tolist() if payload.nbytes > KEPT_BYTES else payload.tolist()
    try:
        return json.dumps(payload, default=str).encode()[:KEPT_BYTES]
    except Exception:  # what holds itself, has keys that are no text, or cannot be written by its own methods
        return shown(payload).encode("utf-8", "surrogatepass")


def _arrow_of(table: Any) -> bytes:
    """The first rows, as many as fit."""
    fitting = KEPT_BYTES * table.num_rows // max(1, table.get_total_buffer_size())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table.slice(0, min(1000, fitting)))
    return bytes(sink.getvalue().slice(0, min(KEPT_BYTES, sink.getvalue().size)).to_pybytes())


def elements_of(payload: bytes, wanted: Collection[int]) -> dict[int, bytes]:
    """Some elements of a JSON list, as they were written."""
    text, decoder, found = payload.decode(), json.JSONDecoder(), {}
    at = text.index("[") + 1
    for i in range(max(wanted) + 1):
        at = _passed(text, at)
        _, stop = decoder.raw_decode(text, at)
        if i in wanted:
            found[i] = text[at:stop].encode()[:KEPT_BYTES]
        at = _passed(text, stop)
    return found


def _passed(text: str, at: int) -> int:
    between = BETWEEN.match(text, at)
    return at if between is None else between.end()
