"""What is asked of sequences: that they cover the rows, hold steps, and weigh the same throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError

Ints = NDArray[np.int64]


def require_offsets(offsets: Ints, steps: Ints | None, n_rows: int, lag: int, origin: str) -> None:
    """Refuse offsets that do not run from 0 to n_rows, sequences without steps, and those too short for the lag.

    Raises
    ------
    DataError : naming the first sequence that is wrong
    """
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != n_rows:
        found = "no offsets" if len(offsets) == 0 else f"offsets from {offsets[0]} to {offsets[-1]}"
        raise DataError(
            f"{origin} has {n_rows} rows, and its sequences have {found}; they must begin at row 0 and end after the "
            f"last row, at {n_rows}"
        )
    lengths = np.diff(offsets) if steps is None else steps
    short = lengths < lag + 1
    if not short.any():
        return
    i = int(np.argmax(short))
    what = f"sequence {i} (from row {offsets[i]} on)"
    if lengths[i] < 1:
        raise DataError(
            f"{origin}: {what} has {lengths[i]} steps, as have {int((lengths < 1).sum())} of {len(lengths)} sequences "
            "(none, or fewer); every sequence needs at least one: leave empty ones out"
        )
    raise DataError(
        f"{origin}: {what} has {lengths[i]} steps, and lag={lag} needs at least {lag + 1}; {int(short.sum())} of "
        f"{len(lengths)} sequences are too short: leave them out, or use a smaller lag"
    )


def require_steps(x: NDArray[Any], offsets: Ints, lag: int, start: int) -> None:
    """Refuse padded sequences that have fewer than lag + 1 steps before their padding.

    Raises
    ------
    DataError : naming the first by its rows; `start` is the chunk's first row
    """
    position = np.arange(1, len(x) + 1)
    present = np.where(np.isnan(x).all(axis=1), 0, position)
    steps = np.maximum.reduceat(present, offsets[:-1]) - offsets[:-1]
    if (short := steps < lag + 1).any():
        i = int(np.argmax(short))
        raise DataError(
            f"the sequence in rows {start + offsets[i]}–{start + offsets[i + 1] - 1} has {max(0, steps[i])} steps "
            f"before its padding, and lag={lag} needs at least {lag + 1}; leave it out, or use a smaller lag"
        )


def require_constant(weight: NDArray[np.float64], offsets: Ints, start: int) -> None:
    """Refuse weights that differ between the steps of a sequence.

    Raises
    ------
    DataError : naming the first two rows that differ; `start` is the chunk's first row
    """
    differs = weight[1:] != weight[:-1]
    differs[offsets[1:-1] - 1] = False
    if differs.any():
        row = int(np.argmax(differs))
        first = int(offsets[np.searchsorted(offsets, row, side="right") - 1])
        raise DataError(
            f"the sample weights differ within a sequence: {weight[row]} in row {start + row} and {weight[row + 1]} in "
            f"row {start + row + 1} of the sequence from row {start + first} on; a sequence has one weight: repeat it "
            "in all of its rows"
        )
