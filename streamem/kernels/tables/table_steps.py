"""The steps of a block of categorical data: log-probabilities are sums of rows of a table, statistics added to them.

Tables have the component last, so that one look-up of a code serves all components by contiguous additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import transpose_blockwise
from streamem.kernels.steps import implement
from streamem.kernels.tables.codes import Codes
from streamem.machine.compiled import compiled

Array = NDArray[Any]


@compiled
def places_of(x: Array, starts: Array, absent: int, places: Array) -> int:
    """places (b, d) in the table of codes x (b, d); the position of the first that is no known code, or −1.

    NaN has the place `absent`, and is taken for code 0 where that is −1.
    """
    for i in range(x.shape[0]):
        row, target = x[i], places[i]
        for j in range(row.size):
            value = row[j]
            if value < 0 or value >= starts[j + 1] - starts[j] or value - np.floor(value) > 0:
                return i * row.size + j
            if value == value:
                target[j] = starts[j] + np.int32(value)
            else:
                target[j] = absent if absent >= 0 else starts[j]
    return -1


@compiled
def look_up(places: Array, table: Array, near: Array, out: Array) -> None:
    """out (K, b) = Σ_j table[places_j] for places (b, d), table (V, K); near (rows of a tile, K) is a buffer."""
    b, d = places.shape
    for start in range(0, b, near.shape[0]):
        rows = min(near.shape[0], b - start)
        for i in range(rows):
            target = near[i]
            target[:] = 0
            for j in range(d):
                source = table[places[start + i, j]]
                for k in range(target.size):
                    target[k] += source[k]
        for k in range(out.shape[0]):
            row = out[k, start : start + rows]
            for i in range(row.size):
                row[i] = near[i, k]


@compiled
def add_at(places: Array, resp: Array, sums: Array, weight: Array) -> None:
    """sums (V, K)[places_j] += resp and weight (K,) += resp, row by row of places (b, d) and resp (b, at least K)."""
    for i in range(places.shape[0]):
        values = resp[i]
        for k in range(weight.size):
            weight[k] += values[k]
        for j in range(places.shape[1]):
            target = sums[places[i, j]]
            for k in range(target.size):
                target[k] += values[k]


def _load(own: Any, x: Any) -> Any:
    return places_of(x, own.starts, own.absent, own.places)


def _scores(own: Any, out: Any) -> Any:
    look_up(own.places[: out.shape[1]], own.table, own.near, out)


def _add(own: Any, posterior: Any, b: Any) -> Any:
    transpose_blockwise(posterior, own.resp)
    add_at(own.places[:b], own.resp, own.sums, own.occupied)


def _add_rows(own: Any, weights: Any) -> Any:
    add_at(own.places[: weights.shape[0]], weights, own.sums, own.occupied)


implement(Codes, _load, _scores, _add, _add_rows)
