"""The most probable path (Viterbi 1967; Rabiner 1989, §III.B), compiled. Importing this module imports Numba.

Everything is in logarithms; of equally probable states the lowest is taken, as hmmlearn does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.compiled import compiled

Array = NDArray[Any]


@compiled
def best_path(log_prob: Array, entry: Array, exit: Array, matrix: Array, path: Array) -> float:
    """Fill path (n,) for log-densities (n, K); its log-probability, `exit` included."""
    n, k = log_prob.shape
    came_from = np.empty((n, k), dtype=np.int32)
    now = entry + log_prob[0]
    level = _lowered(now)
    for t in range(1, n):
        now = _best(now, matrix, came_from[t])
        for j in range(k):
            now[j] += log_prob[t, j]
        level += _lowered(now)
    state = 0
    for j in range(k):
        now[j] += exit[j]
        if now[j] > now[state]:
            state = j
    score = level + now[state]
    for t in range(n - 1, -1, -1):
        path[t] = state
        state = came_from[t, state]
    return score


@compiled
def best_scores(log_prob: Array, entry: Array, matrix: Array) -> Array:
    """Log-probability (K,) of the best path to every state at the last step."""
    came_from, level = np.empty(entry.size, dtype=np.int32), 0.0
    now = entry + log_prob[0]
    for t in range(1, log_prob.shape[0]):
        now = _best(now, matrix, came_from)
        for j in range(entry.size):
            now[j] += log_prob[t, j]
        level += _lowered(now)
    return now + level


@compiled
def _best(row: Array, matrix: Array, came_from: Array) -> Array:
    """max_i row[i] + matrix[i, j], and the lowest i that attains it."""
    best = row[0] + matrix[0]
    came_from[:] = 0
    for i in range(1, row.size):
        for j in range(row.size):
            value = row[i] + matrix[i, j]
            came_from[j] = i if value > best[j] else came_from[j]
            best[j] = value if value > best[j] else best[j]
    return best


@compiled
def _lowered(values: Array) -> float:
    """Subtracts the largest value, and returns it: sums over millions of steps would lose digits."""
    highest = values.max()
    if np.isfinite(highest):
        values -= highest
        return highest
    return 0.0
