"""One weight for each sequence, from weights of sequences or of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError, SchemaError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def sequence_weights(numbers: NDArray[Any], offsets: Ints, what: str) -> Floats:
    """(s,) weights from one for each sequence, or one for each row.

    Raises
    ------
    SchemaError : they are neither (s,) nor (n,)
    DataError : weights that are negative, not finite, or differ within a sequence
    """
    s, n = len(offsets) - 1, int(offsets[-1])
    if numbers.dtype.kind not in "biuf":
        raise SchemaError(f"{what} holds {numbers.dtype}, which is not numeric")
    if numbers.shape == (s,):
        weights = numbers.astype(np.float64)
        require_weights(weights, 0, what, "sequence")
        return weights
    if numbers.shape == (n,):
        return weights_of_rows([numbers], offsets, what)
    raise SchemaError(
        f"{what} has shape {numbers.shape}; there are {s} sequences in {n} rows, so ({s},), one weight for each "
        f"sequence, or ({n},), equal within each, is needed"
    )


def weights_of_rows(pieces: Iterable[NDArray[Any]], offsets: Ints, what: str) -> Floats:
    """(s,) weights from those of rows, which must be equal within each sequence.

    Parameters
    ----------
    pieces : weights of rows that follow each other
    offsets : (s + 1,) first rows of sequences, and n

    Raises
    ------
    DataError : weights that are negative, not finite, or differ within a sequence; more or fewer than n
    """
    weights = np.full(len(offsets) - 1, np.nan)
    row = 0
    for piece in pieces:
        numbers = np.asarray(piece, dtype=np.float64)
        require_weights(numbers, row, what, "row")
        stop = row + len(numbers)
        first, last = np.searchsorted(offsets, row, side="right") - 1, np.searchsorted(offsets, stop, side="left")
        begins = offsets[first:last]
        begun = begins >= row
        weights[first:last][begun] = numbers[begins[begun] - row]
        edges = np.clip(offsets[first : last + 1], row, stop)
        _require_equal(numbers, np.repeat(weights[first:last], edges[1:] - edges[:-1]), row, offsets, what)
        row = stop
    if row != offsets[-1]:
        raise DataError(f"{what}: there are {row} weights for {offsets[-1]} rows")
    return weights


def require_weights(weights: Floats, start: int, what: str, unit: str) -> None:
    """Raise `DataError` naming the first weight that is negative or not finite; the first one is that of `start`."""
    if not (valid := np.isfinite(weights) & (weights >= 0)).all():
        i = int(np.argmin(valid))
        raise DataError(f"{what} is {weights[i]} in {unit} {start + i}; weights must be finite and >= 0")


def _require_equal(found: Floats, expected: Floats, start: int, offsets: Ints, what: str) -> None:
    if (differs := found != expected).any():
        i = int(np.argmax(differs))
        sequence = int(np.searchsorted(offsets, start + i, side="right")) - 1
        raise DataError(
            f"{what} is {expected[i]} in row {offsets[sequence]} and {found[i]} in row {start + i}, both of sequence "
            f"{sequence}; a sequence has one weight: repeat it in all of its rows, or pass one for each sequence"
        )
