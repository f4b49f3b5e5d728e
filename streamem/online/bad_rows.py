"""Finding the rows that a model cannot take, so that one absurd record does not stop a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, NumericalError
from streamem.online.mini_batches import MiniBatch, Poison
from streamem.online.records import Unusable


def overflowing(e_step: Callable[[Chunk], Any], chunk: Chunk) -> list[int]:
    """Rows with which an E-step raises `NumericalError` or `ImpossibleValueError`, found by halving."""
    found: list[int] = []
    pending = [(0, chunk.rows)]
    while pending:
        first, stop = pending.pop()
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                e_step(_rows(chunk, slice(first, stop)))
        except (NumericalError, ImpossibleValueError):
            if stop - first == 1:
                found.append(first)
            else:
                middle = (first + stop) // 2
                pending += [(middle, stop), (first, middle)]
    return sorted(found)


def without(batch: MiniBatch, rows: Sequence[int], reason: str) -> MiniBatch:
    """The mini-batch without some rows, which become unusable records at its end."""
    kept = np.ones(batch.chunk.rows, dtype=np.bool_)
    kept[list(rows)] = False
    bad = [Unusable(i, reason, json.dumps(batch.chunk.x[i].tolist()).encode()) for i in rows]
    position = {partition: list(where) for partition, where in batch.positions.items()}
    poison = [Poison("", {"row of the mini-batch that ends at": position}, one) for one in bad]
    return replace(batch, chunk=_rows(batch.chunk, kept), poison=(*batch.poison, *poison))


def _rows(chunk: Chunk, which: Any) -> Chunk:
    weight = None if chunk.weight is None else chunk.weight[which]
    sequences = None
    if chunk.sequences is not None and not isinstance(which, slice):  # where sequences begin matters to no search
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(which)])
        sequences = replace(chunk.sequences, offsets=np.unique(before[chunk.sequences.offsets]))
    return Chunk(np.ascontiguousarray(chunk.x[which]), weight, sequences, chunk.beside(which))
