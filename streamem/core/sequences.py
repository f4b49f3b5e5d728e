"""Where the sequences of a chunk begin, and whether they reach beyond it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Sequences:
    """Rows offsets[i] … offsets[i + 1] − 1 of a chunk are consecutive steps of one sequence.

    Attributes
    ----------
    offsets : (s + 1,) int64, from 0 to the number of rows, never decreasing
    opened : the first sequence began in an earlier chunk
    continued : the last sequence goes on in the next chunk
    padded : rows of NaN at the end of a sequence stand for no steps (stores of one length for all sequences)
    """

    offsets: NDArray[np.int64]
    opened: bool = False
    continued: bool = False
    padded: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1
