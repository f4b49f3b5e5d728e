"""A piece of the data in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in memory.

    Attributes
    ----------
    x : (n, d) float32 or float64, C order
        NaN means missing.
    weight : (n,) float64 or None
        Non-negative; None means 1 for every row.
    offsets : (s + 1,) int64 or None
        Where sequences start, for models of sequences; None means independent rows.
    """

    x: NDArray[Any]
    weight: NDArray[np.float64] | None = None
    offsets: NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return int(self.x.shape[0])


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float dtype that values of `dtype` are computed in: the narrowest of float32 and float64 that is exact.

    float16, bool and integers of up to 16 bits fit float32; everything else becomes float64.
    """
    if dtype.kind not in "biuf":
        raise TypeError(dtype)
    exact_in_float32 = dtype.itemsize <= 4 if dtype.kind == "f" else dtype.itemsize <= 2
    return np.dtype(np.float32 if exact_in_float32 else np.float64)
