"""What follows from parameters, worked out once for all chunks of a pass."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from numpy.typing import NDArray

Value = TypeVar("Value")
_Key = tuple[int, int, Hashable]

_KNOWN: dict[_Key, Any] = {}
_LOCK = threading.RLock()
"""Reentrant, because one thing follows from another; held while working, so that threads wait instead of repeating."""


def remembered(array: NDArray[Any], other: NDArray[Any], question: Hashable, answer: Callable[[], Value]) -> Value:
    """What `answer` says of two arrays, asked once as long as both live.

    Arrays are known by identity: those of parameters are read-only, and a pass hands the same ones to every chunk.
    """
    key = (id(array), id(other), question)
    with _LOCK:
        if key not in _KNOWN:
            _KNOWN[key] = answer()
            for part in (array, other):
                weakref.finalize(part, _KNOWN.pop, key, None)
        known: Value = _KNOWN[key]
        return known
