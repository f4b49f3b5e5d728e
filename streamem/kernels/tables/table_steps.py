"""The steps of a block of categorical data: log-probabilities are sums of rows of a table, statistics added to them.

Tables have the component last, filled up to whole vectors, so that one look-up of a code serves all components by
contiguous additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import transpose_blockwise
from streamem.kernels.steps import FINE, implement
from streamem.kernels.tables.codes import Codes, GroupCodes
from streamem.kernels.tables.table_llvm import AT_ONCE, add_to_rows, sum_rows
from streamem.machine.compiled import compiled, compiled_inside
from streamem.machine.lanes import LANES

Array = NDArray[Any]


@compiled
def places_of(x: Array, starts: Array, absent: int, places: Array) -> int:
    """places (b, d) in the table of codes x (b, d); the position of the first that is no known code, or −1.

    NaN has the place `absent`, and is taken for code 0 where that is −1.
    """
    d = x.shape[1]
    sizes, begins, other = np.empty(d), np.empty(d, dtype=np.int32), np.empty(d, dtype=np.int32)
    for j in range(d):
        sizes[j], begins[j] = starts[j + 1] - starts[j], starts[j]
        other[j] = absent if absent >= 0 else starts[j]
    for i in range(x.shape[0]):
        row, target = x[i], places[i]
        wrong = 0
        for j in range(d):
            value = np.float64(row[j])
            code = np.int32(value if (value >= 0.0) & (value < sizes[j]) else 0.0)
            wrong |= (value == value) & (np.float64(code) != value)
            target[j] = begins[j] + code if value == value else other[j]
        if wrong:
            return i * d + _first_unknown(row, sizes)
    return -1


@compiled_inside
def _first_unknown(row: Array, sizes: Array) -> int:
    """The position of the first value of a row that is no integer of 0 … sizes − 1."""
    for j in range(row.size):
        value = np.float64(row[j])
        if value < 0 or value >= sizes[j] or value - np.floor(value) > 0:
            return j
    return 0


@compiled
def pair_places(x: Array, sizes: Array, absent: int, skips: bool, places: Array) -> int:
    """places (b, 1) of pairs of codes x (b, 2) in a table of sizes[0] × sizes[1]; else as `places_of`.

    Where either code is NaN the place is `absent`, and 0 where that is −1. With `skips` codes beyond the sizes are NaN.
    """
    first_size, second_size, columns = sizes[0], sizes[1], np.int32(sizes[1])
    other = np.int32(max(absent, 0))
    for i in range(x.shape[0]):
        first, second = np.float64(x[i, 0]), np.float64(x[i, 1])
        known = (first >= 0.0) & (first < first_size) & (second >= 0.0) & (second < second_size)
        a, b = np.int32(first if known else 0.0), np.int32(second if known else 0.0)
        if known & (np.float64(a) == first) & (np.float64(b) == second):
            places[i, 0] = a * columns + b
            continue
        for j in range(2):
            value = np.float64(x[i, j])
            beyond = value >= sizes[j]
            if not (beyond and skips) and (value < 0.0 or beyond or value - np.floor(value) > 0.0):
                return 2 * i + j
        places[i, 0] = other
    return FINE


@compiled
def look_up(places: Array, table: Array, near: Array, out: Array) -> None:
    """out (K, b) = Σ_j table[places_j] for places (b, d), table (V, width); near (rows of a tile, width) is a buffer.

    The width is K, filled up to whole vectors.
    """
    b, width = places.shape[0], table.shape[1]
    for start in range(0, b, near.shape[0]):
        rows = min(near.shape[0], b - start)
        for i in range(rows):
            for k in range(0, width, AT_ONCE * LANES):
                sum_rows(table, min(AT_ONCE, (width - k) // LANES), k, places, start + i, near, i)
        for k in range(out.shape[0]):
            row = out[k, start : start + rows]
            for i in range(row.size):
                row[i] = near[i, k]


@compiled
def add_at(places: Array, resp: Array, sums: Array, weight: Array) -> None:
    """sums (V, width)[places_j] += resp and weight (width,) += resp, row by row of places (b, d) and resp.

    resp is (b, at least width); the width is that of whole vectors.
    """
    width = sums.shape[1]
    for i in range(places.shape[0]):
        for k in range(0, width, AT_ONCE * LANES):
            add_to_rows(sums, min(AT_ONCE, (width - k) // LANES), k, places, i, resp, weight)


@compiled_inside
def look_up_groups(places: Array, spans: Array, table: Array, near: Array, out: Array) -> None:
    """out (K, g) = Σ table[places] over all rows of each group, of spans (g, 2); near is a buffer as above."""
    g, width = spans.shape[0], table.shape[1]
    for start in range(0, g, near.shape[0]):
        groups = min(near.shape[0], g - start)
        for i in range(groups):
            first, stop = spans[start + i, 0], spans[start + i, 1]
            if first == stop:
                near[i, :] = 0.0
                continue
            own = places[first:stop].reshape(1, -1)
            for k in range(0, width, AT_ONCE * LANES):
                sum_rows(table, min(AT_ONCE, (width - k) // LANES), k, own, 0, near, i)
        for k in range(out.shape[0]):
            row = out[k, start : start + groups]
            for i in range(row.size):
                row[i] = near[i, k]


@compiled_inside
def add_groups(places: Array, spans: Array, resp: Array, sums: Array, weight: Array, occupied: Array) -> None:
    """sums[places] of all rows of each group, and weight once a row and occupied once a group, += resp (g, width)."""
    width = sums.shape[1]
    for i in range(spans.shape[0]):
        first, stop = spans[i, 0], spans[i, 1]
        own = places[first:stop].reshape(1, -1)
        for k in range(0, width, AT_ONCE * LANES):
            add_to_rows(sums, min(AT_ONCE, (width - k) // LANES), k, own, 0, resp[i : i + 1], occupied)
        for k in range(width):
            weight[k] += (stop - first) * resp[i, k]


def _load(own: Any, x: Any) -> Any:
    return places_of(x, own.starts, own.absent, own.places)


def _scores(own: Any, out: Any) -> Any:
    look_up(own.places[: out.shape[1]], own.table, own.near, out)


def _add(own: Any, posterior: Any, b: Any) -> Any:
    transpose_blockwise(posterior, own.resp)
    add_at(own.places[:b], own.resp, own.sums, own.occupied)


def _add_rows(own: Any, weights: Any) -> Any:
    add_at(own.places[: weights.shape[0]], weights, own.sums, own.occupied)


def _load_groups(own: Any, x: Any) -> Any:
    for i in range(x.shape[0]):
        own.spans[i, 0], own.spans[i, 1] = x[i, 0], x[i, 1]
    return FINE


def _group_scores(own: Any, out: Any) -> Any:
    look_up_groups(own.places, own.spans[: out.shape[1]], own.table, own.near, out)


def _add_groups(own: Any, posterior: Any, b: Any) -> Any:
    transpose_blockwise(posterior, own.resp)
    add_groups(own.places, own.spans[:b], own.resp, own.sums, own.weight, own.occupied)


def _add_weighted_groups(own: Any, weights: Any) -> Any:
    add_groups(own.places, own.spans[: weights.shape[0]], weights, own.sums, own.weight, own.occupied)


implement(Codes, _load, _scores, _add, _add_rows)
implement(GroupCodes, _load_groups, _group_scores, _add_groups, _add_weighted_groups)
