"""The most probable path of a chain whose states have ages (Viterbi; Rabiner 1989, §III.B, §IV.D).

Compiled; imports Numba. Sub-states and probabilities as in `age_logs`; moves (1, K, K), or a matrix a
transition.
Where a path came from has to be kept for the first ages, and for the last one whether it was the last already: 3·n·K
numbers, not n·K·D. Of equal paths the lowest state, and then age, is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.age_logs import copied
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


@compiled
def best_ages(
    log_b: Array, entry: Array, cut: bool, exit: Array, moves: Array, leave: Array, stay: Array, path: Array
) -> float:
    """Fills path (n,) int64 with sub-states k·D + a, and returns the log-probability of the best path with `exit`."""
    each, shift = 1 if moves.shape[0] > 1 else 0, 1 if cut else 0
    n, k, d = log_b.shape[0], leave.shape[0], leave.shape[1]
    came_from, left_at = np.zeros((n, k), dtype=np.int32), np.zeros((n, k), dtype=np.int32)
    was_last = np.zeros((n, k), dtype=np.bool_)
    now, then = np.empty((k, d)), np.empty((k, d))
    copied(now, entry)
    level = 0.0
    for t in range(n):
        if t > 0 or cut:
            _climb(then, now, moves[each * (t + shift - 1)], leave, stay, came_from[t], left_at[t], was_last[t])
            now, then = then, now
        level += _emitted(now, log_b[t])
    best, state, age = -np.inf, 0, 0
    for i in range(k):
        for a in range(d):
            value = now[i, a] + exit[i, a]
            if value > best:
                best, state, age = value, i, a
    for t in range(n - 1, -1, -1):
        path[t] = state * d + age
        if age == 0:
            before = came_from[t, state]
            age = left_at[t, before]
            state = before
        elif age < d - 1 or not was_last[t, state]:
            age -= 1
    return level + best


@compiled
def best_age_scores(log_b: Array, entry: Array, cut: bool, moves: Array, leave: Array, stay: Array) -> Array:
    """Log-probabilities (K, D), up to a constant, of the best path to every sub-state after the steps (n, K)."""
    each, shift = 1 if moves.shape[0] > 1 else 0, 1 if cut else 0
    k, d = leave.shape
    came_from, left_at, was_last = np.zeros(k, np.int32), np.zeros(k, np.int32), np.zeros(k, np.bool_)
    now, then = np.empty((k, d)), np.empty((k, d))
    copied(now, entry)
    for t in range(log_b.shape[0]):
        if t > 0 or cut:
            _climb(then, now, moves[each * (t + shift - 1)], leave, stay, came_from, left_at, was_last)
            now, then = then, now
        _emitted(now, log_b[t])
    return now


@compiled
def best_age_rest(log_b: Array, exit: Array, moves: Array, leave: Array, stay: Array) -> Array:
    """Log-probabilities (K, D), up to a constant, of the best path through steps and what follows, from before them."""
    each = 1 if moves.shape[0] > 1 else 0
    k, d = leave.shape
    beta, ahead = np.empty((k, d)), np.empty((k, d))
    copied(beta, exit)
    for t in range(log_b.shape[0] - 1, -1, -1):
        copied(ahead, beta)
        _emitted(ahead, log_b[t])
        for i in range(k):
            gone = -np.inf
            for j in range(k):
                gone = max(gone, moves[each * t, i, j] + ahead[j, 0])
            for a in range(d):
                beta[i, a] = max(stay[i, a] + ahead[i, min(a + 1, d - 1)], leave[i, a] + gone)
    return beta


@compiled_inside
def _climb(
    out: Array, row: Array, moves: Array, leave: Array, stay: Array, came_from: Array, left_at: Array, was_last: Array
) -> None:
    """The next step's maxima, and where they came from: age at which each state is best left, state before each."""
    k, d = row.shape
    gone = np.empty(k)
    for i in range(k):
        gone[i] = -np.inf
        left_at[i] = 0
        for a in range(d):
            value = row[i, a] + leave[i, a]
            if value > gone[i]:
                gone[i], left_at[i] = value, a
    for j in range(k):
        highest, place = -np.inf, 0
        for i in range(k):
            value = gone[i] + moves[i, j]
            if value > highest:
                highest, place = value, i
        for a in range(1, d):
            out[j, a] = row[j, a - 1] + stay[j, a - 1]
        out[j, 0], came_from[j] = highest, place
        older = row[j, d - 1] + stay[j, d - 1]
        was_last[j] = older > out[j, d - 1]
        if was_last[j]:
            out[j, d - 1] = older


@compiled_inside
def _emitted(now: Array, density: Array) -> float:
    """Adds log-densities, and takes off the largest sum, which is the result: sums of millions would lose digits."""
    highest = -np.inf
    for i in range(now.shape[0]):
        for a in range(now.shape[1]):
            now[i, a] += density[i]
            highest = max(highest, now[i, a])
    if not np.isfinite(highest):
        return 0.0
    for i in range(now.shape[0]):
        for a in range(now.shape[1]):
            now[i, a] -= highest
    return highest
