"""Which rows of a chunk are steps of which sequence: missing rows, padding and weights sorted out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError
from streamem.core.sequences import Sequences

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Steps:
    """The sequences of a chunk as a model sees them.

    Attributes
    ----------
    spans : (s, 2) int64, first row and the row after the last step; between sequences there may be padding
    missing : (n,) bool, or None where every row has values
    padding : (n,) bool rows that are no steps, or None
    weights : (s,)
    """

    spans: Array
    missing: Array | None
    padding: Array | None
    weights: Array

    def groups(self, rows: int, first: int = 0, count: int | None = None) -> list[slice]:
        """Runs of whole sequences of at most so many rows together, or of a single longer one; from one to another."""
        runs: list[slice] = []
        count = len(self.spans) if count is None else count
        starts, stops = self.spans[:, 0], self.spans[:, 1]
        while first < count:
            beyond = int(np.searchsorted(stops, starts[first] + rows, side="right"))
            stop = min(max(beyond, first + 1), count)
            runs.append(slice(first, stop))
            first = stop
        return runs


def steps_of(chunk: Chunk, boundary: Boundary) -> Steps:
    """The steps of a chunk, given what lies beyond it.

    Raises
    ------
    DataError : rows of one sequence have different weights
    """
    sequences = chunk.sequences or Sequences(np.array([0, chunk.rows] if chunk.rows else [0], dtype=np.int64))
    offsets = np.asarray(sequences.offsets, dtype=np.int64)
    spans = np.column_stack([offsets[:-1], offsets[1:]])
    missing = missing_rows(chunk.x)
    padding = None
    if sequences.padded and missing is not None:
        kept = len(spans) - 1 if sequences.continued and not boundary.ended else len(spans)
        spans, padding = _trimmed(spans, missing, kept)
    return Steps(spans, missing, padding, _weights(chunk.weight, offsets))


def missing_rows(x: Array) -> Array | None:
    """(n,) which rows hold no value, NaN in every column, or None if all hold some."""
    # One sum tells in most cases; that of huge values may be wrong, and only costs the second look.
    with np.errstate(over="ignore", invalid="ignore"):
        if not x.size or not np.isnan(np.sum(x[:, 0], dtype=np.float64)):
            return None
    missing = np.isnan(x[:, 0])
    doubtful = np.flatnonzero(missing)
    missing[doubtful] = np.isnan(x[doubtful]).all(axis=1)
    return missing if missing.any() else None


def _trimmed(spans: Array, missing: Array, kept: int) -> tuple[Array, Array]:
    """The first `kept` sequences without the missing rows at their ends, and which rows those are."""
    present = np.flatnonzero(~missing)
    after_last = np.concatenate([[0], present + 1])[np.searchsorted(present, spans[:kept, 1])]
    stops = spans[:, 1].copy()
    stops[:kept] = np.maximum(after_last, spans[:kept, 0])
    padding = np.zeros(len(missing), dtype=np.bool_)
    for start, stop in zip(stops[:kept].tolist(), spans[:kept, 1].tolist(), strict=True):
        padding[start:stop] = True
    return np.column_stack([spans[:, 0], stops]), padding


def _weights(weight: Array | None, offsets: Array) -> Array:
    """Weight of every sequence; 1 for sequences without rows."""
    weights, lengths = np.ones(len(offsets) - 1), np.diff(offsets)
    if weight is None or not len(weight):
        return weights
    weights[lengths > 0] = weight[offsets[:-1][lengths > 0]]
    differs = np.repeat(weights, lengths) != weight
    if differs.any():
        row = int(np.argmax(differs))
        s = int(np.searchsorted(offsets, row, side="right")) - 1
        raise DataError(
            f"sequence {s} of the chunk (its rows {offsets[s]}–{offsets[s + 1] - 1}) has weights {weights[s]} and "
            f"{weight[row]} (row {row}); all rows of a sequence need one weight, that of the sequence"
        )
    return weights
