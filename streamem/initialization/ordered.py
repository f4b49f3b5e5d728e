"""A start for chains that pass through their states in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def in_order(present: Array, offsets: Array, k: int) -> Array:
    """States 0 … k − 1 (n,) in equal shares of every sequence's rows, up to its last row that is present.

    >>> in_order(np.array([True, True, True, True, True, False]), np.array([0, 4, 6]), 2).tolist()
    [0, 0, 1, 1, 0, 1]
    """
    rows = np.arange(len(present))
    begun = np.repeat(offsets[:-1], np.diff(offsets))
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    last = np.zeros(len(offsets) - 1, dtype=np.int64)
    np.maximum.at(last, sequence[present], (rows - begun)[present] + 1)
    return np.minimum((rows - begun) * k // np.maximum(last[sequence], 1), k - 1)
