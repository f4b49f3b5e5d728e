"""The most probable path (Viterbi 1967; Rabiner 1989, §III.B), compiled for a number of states. Imports Numba.

Everything is in logarithms. Where a path came from is found on the way back, for the states that are on it only; of
equally probable states the lowest is taken, as hmmlearn does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.row_products import climb
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


class Paths(NamedTuple):
    """Compiled for one width; log-densities are (n, width), states filled up with −inf, and without NaN.

    Attributes
    ----------
    best : (log_prob, entry, exit, matrix, path) fills path (n,) and returns its log-probability, `exit` included;
        log_prob is overwritten
    scores : (log_prob, matrix, rows, levels) for rows (m, width) that enter the first step: log-probabilities of the
        best path to every state at the last step, and what is to be added to each row (m,)
    """

    best: Callable[[Array, Array, Array, Array, Array], float]
    scores: Callable[[Array, Array, Array, Array], None]


@cache
def paths(width: int) -> Paths:
    """The compiled best path and its log-probability, for a width of states."""

    @compiled
    def best(log_prob: Array, entry: Array, exit: Array, matrix: Array, path: Array) -> float:
        n = log_prob.shape[0]
        for j in range(width):
            log_prob[0, j] += entry[j]
        level = _lowered(log_prob[0])
        now = np.empty(width)
        for t in range(1, n):
            climb(now, log_prob[t - 1], matrix, log_prob[t], width)
            for j in range(width):
                log_prob[t, j] = now[j]
            if t & 15 == 0:
                level += _lowered(log_prob[t])
        state = 0
        for j in range(width):
            now[j] = log_prob[n - 1, j] + exit[j]
            state = j if now[j] > now[state] else state
        score = level + now[state]
        path[n - 1] = state
        for t in range(n - 2, -1, -1):
            came_from, highest = 0, log_prob[t, 0] + matrix[0, state]
            for i in range(1, width):
                value = log_prob[t, i] + matrix[i, state]
                came_from = i if value > highest else came_from
                highest = value if value > highest else highest
            state = came_from
            path[t] = state
        return score

    @compiled
    def scores(log_prob: Array, matrix: Array, rows: Array, levels: Array) -> None:
        now, then = rows, np.empty(rows.shape)
        for i in range(rows.shape[0]):
            for j in range(width):
                now[i, j] += log_prob[0, j]
        for t in range(1, log_prob.shape[0]):
            for i in range(rows.shape[0]):
                climb(then[i], now[i], matrix, log_prob[t], width)
                if t & 15 == 0:
                    levels[i] += _lowered(then[i])
            now, then = then, now
        for i in range(rows.shape[0]):
            for j in range(width):
                rows[i, j] = now[i, j]

    return Paths(best, scores)


@compiled_inside
def _lowered(values: Array) -> float:
    """Subtracts the largest value, and returns it: sums over millions of steps would lose digits."""
    highest = values.max()
    if np.isfinite(highest):
        values -= highest
        return highest
    return 0.0
