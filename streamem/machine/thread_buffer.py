"""Memory that a thread uses again and again: fresh megabytes for every chunk cost as much as the arithmetic on them.

It begins with a line of the cache, because a vector of 512 bits that begins elsewhere is read from two lines.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_OWN = threading.local()

Wanted = tuple[str, tuple[int, ...], DTypeLike]
"""Purpose, shape and dtype of a buffer."""

LINE_BYTES = 64
"""Of a cache."""


def empty_lines(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """An array of anything that begins with a line of the cache."""
    size = prod(shape) * np.dtype(dtype).itemsize
    held = np.empty(size + LINE_BYTES, dtype=np.uint8)
    first = -held.ctypes.data % LINE_BYTES
    return held[first : first + size].view(dtype).reshape(shape)


def thread_buffer(purpose: str, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """An array of this thread for a purpose; what it held is lost, and so will this be at the next call for the same.

    For use within one call of a function only, that calls nothing else which names the same purpose.
    """
    kept: dict[str, NDArray[Any]] = _OWN.__dict__
    size = prod(shape) * np.dtype(dtype).itemsize
    held = kept.get(purpose)
    if held is None or held.nbytes < size or held.nbytes > 4 * size + 2**20:
        held = kept[purpose] = empty_lines((size,), np.uint8)
    return held[:size].view(dtype).reshape(shape)


def thread_buffers(*wanted: Wanted) -> list[NDArray[Any]]:
    """A `thread_buffer` for each (purpose, shape, dtype), in order; no two may have one purpose."""
    return [thread_buffer(*each) for each in wanted]
