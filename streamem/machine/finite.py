"""Whether all numbers of an array are finite, as fast as memory is read. Imports Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled

Array = NDArray[Any]

_BITS = {
    np.dtype(np.float64): (0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000, 0x8000_0000_0000_0000),
    np.dtype(np.float32): (0x7F80_0000_7F80_0000, 0x0080_0000_0080_0000, 0x8000_0000_8000_0000),
}
"""The exponent's bits, its lowest, and the one above it, of a float64 or of two float32.

Infinities and NaN have all bits of the exponent set, so that one more carries over (IEEE 754).
"""


@compiled
def _carried(words: Array, exponent: np.uint64, lowest: np.uint64) -> np.uint64:
    """Bits that any of the words (n,) uint64 carried over."""
    found = np.uint64(0)
    for i in range(words.size):
        found |= (words[i] & exponent) + lowest
    return found


def all_finite(x: Array) -> bool:
    """Whether all values, float64 or float32 in C order, are finite."""
    flat = x.reshape(-1)
    rest = flat.size % (8 // flat.itemsize)
    if rest and not np.isfinite(flat[-rest:]).all():
        return False
    exponent, lowest, above = (np.uint64(bits) for bits in _BITS[flat.dtype])
    return not _carried(flat[: flat.size - rest].view(np.uint64), exponent, lowest) & above
