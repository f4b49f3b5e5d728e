"""Pairs of rows with components that go by differences: which of them matter, and their log-densities; compiled.

A component that no product of features serves is mostly a tight one, which matters to few rows. The distance in a few
features is at most the whole one (Cauchy & Schwarz), so it rules out the others for a few operations a row, with
differences that err by no more than those of the log-density itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.pairs.active_pairs import load_row, matrix_log_prob, variance_log_prob
from streamem.kernels.pairs.apart_buffers import Apart, Room
from streamem.kernels.pairs.pair_buffers import PairBuffers
from streamem.machine.compiled import compiled_inside, exp_nonpositive

Array = NDArray[Any]

FEATURES_AT_ONCE = 16
"""Of variances, after which a pair is given up once it lies too far out."""


@compiled_inside
def _bound_pairs(
    x: Array, center: Array, unscale: Array, log_weights: Array, apart: Apart, room: Room, bounds: Array
) -> None:
    """bounds (S, b) = log-weight + constant − ½ of the squared distance in the marks of each component."""
    b, used, white = x.shape[0], apart.used, room.white[: x.shape[0]]
    marks = room.marks[: used.size * b].reshape(used.size, b)
    for u in range(used.size):
        j, mark = used[u], marks[u]
        for i in range(b):
            mark[i] = (x[i, j] - center[j]) * unscale[j]
    for s in range(bounds.shape[0]):
        row = bounds[s]
        row[:] = log_weights[s] + apart.gaussians.constants[s]
        for q in range(apart.places.shape[1]):
            white[:] = 0.0
            for p in range(q + 1):
                root, middle, mark = apart.roots[s, q, p], apart.middles[s, p], marks[apart.places[s, p]]
                if root != 0.0:
                    for i in range(b):
                        white[i] += root * (mark[i] - middle)
            for i in range(b):
                row[i] -= 0.5 * (white[i] * white[i])


@compiled_inside
def _nominate(bounds: Array, room: Room) -> None:
    """The component with the largest bound for each row where that is not cut off, and the rows of each component."""
    count, b = bounds.shape
    best, top, cut = room.best[:b], room.top[:b], room.cut
    rows, starts = room.first_rows, room.first_starts
    best[:] = -np.inf
    top[:] = -1
    for s in range(count):
        row = bounds[s]
        for i in range(b):
            value = row[i]
            top[i] = s if value > best[i] else top[i]
            best[i] = value if value > best[i] else best[i]
    starts[:] = 0
    for i in range(b):
        if not best[i] >= cut[i]:
            top[i] = -1
        if top[i] >= 0:
            starts[top[i] + 1] += 1
    for s in range(count):
        starts[s + 1] += starts[s]
    for i in range(b):
        if top[i] >= 0:
            rows[starts[top[i]]] = i
            starts[top[i]] += 1
    for s in range(count, 0, -1):
        starts[s] = starts[s - 1]
    starts[0] = 0


@compiled_inside
def _add_rivals(bounds: Array, log_weights: Array, width: float, room: Room, buffers: PairBuffers) -> None:
    """All pairs that may matter: the nominated ones, which cut off others, then from `begins` on their rivals."""
    count, b = bounds.shape
    rows, starts, values, cut, top = buffers.rows, buffers.starts, buffers.values, room.cut, room.top
    first_rows, first_starts, first_values = room.first_rows, room.first_starts, room.first_values
    for s in range(count):
        for p in range(first_starts[s], first_starts[s + 1]):
            cut[first_rows[p]] = max(cut[first_rows[p]], first_values[p] + log_weights[s] - width)
    found = 0
    for s in range(count):
        starts[s] = found
        for p in range(first_starts[s], first_starts[s + 1]):
            rows[found] = first_rows[p]
            values[found] = first_values[p]
            found += 1
        room.begins[s] = found
        row = bounds[s]
        for i in range(b):
            rows[found] = i
            found += 1 if row[i] >= cut[i] and top[i] >= 0 and top[i] != s else 0
    starts[count] = found


@compiled_inside
def _rival_variances(
    x: Array, apart: Apart, log_weights: Array, begins: Array, ends: Array, cut: Array, rows: Array, values: Array
) -> None:
    """`variance_log_prob`, but −∞ once a pair lies below its cut."""
    d = x.shape[1]
    for s in range(apart.gaussians.means.shape[0]):
        mean, factor, constant = apart.gaussians.means[s], apart.gaussians.factors[s], apart.gaussians.constants[s]
        for p in range(begins[s], ends[s]):
            row, total = x[rows[p]], 0.0
            most = 2.0 * (constant + log_weights[s] - cut[rows[p]])
            for start in range(0, d, FEATURES_AT_ONCE):
                part = 0.0
                for j in range(start, min(start + FEATURES_AT_ONCE, d)):
                    u = (row[j] - mean[j]) * factor[j]
                    part += u * u
                total += part
                if total > most:
                    break
            values[p] = -np.inf if total > most else constant - 0.5 * total


@compiled_inside
def _keep(log_weights: Array, cut: Array, buffers: PairBuffers) -> None:
    """Keep only pairs whose weighted log-density is not below the row's cut."""
    rows, starts, values = buffers.rows, buffers.starts, buffers.values
    kept, first = 0, starts[0]
    for s in range(log_weights.size):
        last = starts[s + 1]
        starts[s] = kept
        for p in range(first, last):
            if values[p] + log_weights[s] >= cut[rows[p]]:
                rows[kept], values[kept] = rows[p], values[p]
                kept += 1
        first = last
    starts[log_weights.size] = kept


@compiled_inside
def find_pairs(
    x: Array,
    center: Array,
    unscale: Array,
    log_weights: Array,
    width: float,
    apart: Apart,
    factors: Array,
    room: Room,
    buffers: PairBuffers,
) -> int:
    """How many pairs of rows x (b, d) are not below room.cut (b,), in `buffers`: rows, starts, and log-densities.

    Nor further than `width` below the best of their row, which raises cut. The rows of pairs are anchored.

    factors : those of the Gaussians, an argument of its own because Numba compiles one branch for its number of axes
    """
    count, b = log_weights.size, x.shape[0]
    bounds = room.bounds[: count * b].reshape(count, b)
    _bound_pairs(x, center, unscale, log_weights, apart, room, bounds)
    _nominate(bounds, room)
    first, starts = room.first_rows, room.first_starts
    if starts[count] == 0:
        buffers.starts[:] = 0
        return 0
    for p in range(starts[count]):
        load_row(x[first[p]], center, unscale, buffers.x[first[p]])
    ends = buffers.starts[1:]
    if factors.ndim == 3:
        matrix_log_prob(buffers.x, apart.gaussians, first, starts[:-1], starts[1:], room.first_values, buffers)
        _add_rivals(bounds, log_weights, width, room, buffers)
        matrix_log_prob(buffers.x, apart.gaussians, buffers.rows, room.begins, ends, buffers.values, buffers)
    else:
        variance_log_prob(buffers.x, apart.gaussians, first, starts[:-1], starts[1:], room.first_values)
        _add_rivals(bounds, log_weights, width, room, buffers)
        _rival_variances(buffers.x, apart, log_weights, room.begins, ends, room.cut, buffers.rows, buffers.values)
    _keep(log_weights, room.cut, buffers)
    return buffers.starts[count]


@compiled_inside
def _shares_left(before: Array, room: Room, mass: Array, b: int) -> None:
    """factor and mass (b,) of touched rows: the sum of the other components' densities, relative to the new largest."""
    for i in range(b):
        mass[i] = before[i] - room.high[i] if before[i] > -np.inf else -np.inf
    for i in range(b):
        mass[i] = exp_nonpositive(mass[i])
    for i in range(b):
        mass[i] = mass[i] / room.inverse[i] if mass[i] > 0.0 else 0.0  # without any, their inverse is no number
        room.factor[i] = mass[i] if room.touched[i] > 0.0 else 1.0


@compiled_inside
def join_pairs(log_weights: Array, room: Room, buffers: PairBuffers, b: int) -> None:
    """Log-sum-exp over the other components and pairs, whose values become responsibilities.

    Of the others, high (b,) is the largest joint log-density and inverse (b,) that of their sum relative to it; then
    the same of all. Their responsibilities have to be multiplied by factor (b,), those of rows that are `touched`.
    """
    rows, starts, values = buffers.rows, buffers.starts, buffers.values
    high, inverse, factor, touched, before, mass = (
        room.high,
        room.inverse,
        room.factor,
        room.touched,
        room.best,
        room.white,
    )
    for i in range(b):
        before[i], touched[i] = high[i], 0.0
    for s in range(log_weights.size):
        for p in range(starts[s], starts[s + 1]):
            values[p] += log_weights[s]
            high[rows[p]] = max(high[rows[p]], values[p])
            touched[rows[p]] = 1.0
    _shares_left(before, room, mass, b)
    for s in range(log_weights.size):
        for p in range(starts[s], starts[s + 1]):
            values[p] -= high[rows[p]]
    for p in range(starts[log_weights.size]):
        values[p] = exp_nonpositive(values[p])
    for p in range(starts[log_weights.size]):
        mass[rows[p]] += values[p]
    for i in range(b):
        if touched[i] > 0.0:
            inverse[i] = 1.0 / mass[i]
            factor[i] *= inverse[i]
    for p in range(starts[log_weights.size]):
        values[p] *= inverse[rows[p]]


@compiled_inside
def count_active(resp: Array, least: float, room: Room, buffers: PairBuffers) -> None:
    """room.active of touched rows, from responsibilities (L, b) that await their factor, and from pairs."""
    active, factor, touched = room.active, room.factor, room.touched
    for i in range(resp.shape[1]):
        active[i] *= 1.0 - touched[i]
    for k in range(resp.shape[0]):
        row = resp[k]
        for i in range(row.size):
            active[i] += touched[i] if row[i] * factor[i] > least else 0.0
    for p in range(buffers.starts[-1]):
        active[buffers.rows[p]] += 1.0 if buffers.values[p] > least else 0.0
