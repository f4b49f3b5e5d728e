"""JSON from outside: bounded in length and depth before it is parsed."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from streamem.core.errors import DataError
from streamem.core.formats import BYTE_ORDER_MARK

MOST_JSON_BYTES = 2**26
"""Parsed at once; Python's objects take up to twenty times as much."""
MOST_DEPTH = 500
"""Levels of a text, below Python's own limit: where that was raised, its parser overflows the stack of the process."""
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse_json(payload: bytes) -> Any:
    """What a text in UTF-8 holds, with or without a byte order mark.

    Raises
    ------
    DataError : it is too long, or nested too deeply
    ValueError : it is no JSON
    """
    if len(payload) > MOST_JSON_BYTES:
        raise DataError(f"{len(payload)} bytes of JSON; at most {MOST_JSON_BYTES} are read at once, send Arrow")
    if payload.count(b"[") + payload.count(b"{") > MOST_DEPTH and (depth := _depth(payload)) > MOST_DEPTH:
        raise DataError(f"JSON of {depth} levels; at most {MOST_DEPTH} are read, and a record needs two")
    return json.loads(payload.removeprefix(BYTE_ORDER_MARK).decode())


def _depth(payload: bytes) -> int:
    """The deepest nesting, whatever stands in texts."""
    for text in (payload, TEXT.sub(b"", payload)):
        letters = np.frombuffer(text, np.uint8)
        inwards, outwards = np.isin(letters, tuple(b"[{")), np.isin(letters, tuple(b"]}"))
        depth = int(np.cumsum(inwards.astype(np.int8) - outwards.astype(np.int8), dtype=np.int64).max(initial=0))
        if depth <= MOST_DEPTH:
            break
    return depth
