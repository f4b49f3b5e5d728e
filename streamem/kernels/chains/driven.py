"""Recursions of a hidden Markov chain whose transitions differ from step to step, in logarithms. Imports Numba.

Log-densities are (n, K), `moves` (n, K, K) the logarithm of the transition from each step to the next one, of which
that of a sequence's last step is not read. Sequence s has rows spans[s, 0] … spans[s, 1] − 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled, compiled_inside, exp_nonpositive

Array = NDArray[Any]


@compiled
def driven_alphas(log_prob: Array, moves: Array, spans: Array, entries: Array, alpha: Array, gains: Array) -> None:
    """Fills alpha (n, K), log-probabilities of the state given the past, and gains (n,), log-likelihoods of each step.

    The first step of sequence s is distributed as entries (s, K) before it is seen. Gains are not finite from a step on
    that cannot be.
    """
    k = log_prob.shape[1]
    predicted = np.empty(k)
    for s in range(spans.shape[0]):
        for t in range(spans[s, 0], spans[s, 1]):
            for j in range(k):
                predicted[j] = entries[s, j]
            if t > spans[s, 0]:
                for j in range(k):
                    predicted[j] = _log_sum(alpha[t - 1], moves[t - 1, :, j])
            for j in range(k):
                predicted[j] += log_prob[t, j]
            gain = _log_total(predicted)
            gains[t] = gain
            for j in range(k):
                alpha[t, j] = predicted[j] - gain


@compiled
def driven_betas(log_prob: Array, moves: Array, spans: Array, exits: Array, alpha: Array, beta: Array) -> None:
    """Fills beta (n, K) such that alpha + beta are log-probabilities given all; exits (s, K) tell what follows."""
    k = log_prob.shape[1]
    ahead, both = np.empty(k), np.empty(k)
    for s in range(spans.shape[0]):
        for t in range(spans[s, 1] - 1, spans[s, 0] - 1, -1):
            for i in range(k):
                beta[t, i] = exits[s, i] if t == spans[s, 1] - 1 else _log_sum(moves[t, i], ahead)
            for i in range(k):
                both[i] = alpha[t, i] + beta[t, i]
            total = _log_total(both)
            for i in range(k):
                beta[t, i] -= total
                ahead[i] = log_prob[t, i] + beta[t, i]


@compiled
def driven_scores(log_prob: Array, moves: Array, rows: Array, best: bool) -> None:
    """rows (m, K), how m paths enter the first step → log-probabilities of the state at the last one, for all paths
    that lead there or for the best of them."""
    m, k = rows.shape
    then = np.empty(k)
    for t in range(log_prob.shape[0]):
        for r in range(m):
            for j in range(k):
                if t == 0:
                    then[j] = rows[r, j]
                elif best:
                    then[j] = _highest(rows[r], moves[t - 1, :, j])
                else:
                    then[j] = _log_sum(rows[r], moves[t - 1, :, j])
            for j in range(k):
                rows[r, j] = then[j] + log_prob[t, j]


@compiled
def driven_climb(log_prob: Array, moves: Array, entry: Array) -> None:
    """Log-probabilities of the best path to each state, (n, K), up to a number for each step, in place."""
    n, k = log_prob.shape
    for t in range(n):
        highest = -np.inf
        for j in range(k):
            log_prob[t, j] += entry[j] if t == 0 else _highest(log_prob[t - 1], moves[t - 1, :, j])
            highest = max(highest, log_prob[t, j])
        if np.isfinite(highest):
            for j in range(k):
                log_prob[t, j] -= highest


@compiled
def driven_trace(scores: Array, moves: Array, state: int, path: Array) -> None:
    """The best path (n,) that ends in a state, of what `driven_climb` found; of equal ones the lowest states."""
    k = scores.shape[1]
    path[scores.shape[0] - 1] = state
    for t in range(scores.shape[0] - 2, -1, -1):
        came_from, highest = 0, scores[t, 0] + moves[t, 0, state]
        for i in range(1, k):
            value = scores[t, i] + moves[t, i, state]
            came_from = i if value > highest else came_from
            highest = value if value > highest else highest
        state = came_from
        path[t] = state


@compiled_inside
def _highest(one: Array, other: Array) -> float:
    highest = one[0] + other[0]
    for i in range(1, one.size):
        value = one[i] + other[i]
        highest = value if value > highest else highest
    return highest


@compiled_inside
def _log_sum(one: Array, other: Array) -> float:
    """log Σ exp(one + other)."""
    highest = _highest(one, other)
    if not np.isfinite(highest):
        return highest
    total = 0.0
    for i in range(one.size):
        total += exp_nonpositive(one[i] + other[i] - highest)
    return highest + np.log(total)


@compiled_inside
def _log_total(values: Array) -> float:
    """log Σ exp(values); NaN where one is."""
    highest = values[0]
    for value in values:
        if np.isnan(value):
            return np.nan
        highest = max(highest, value)
    if not np.isfinite(highest):
        return highest
    total = 0.0
    for value in values:
        total += exp_nonpositive(value - highest)
    return highest + np.log(total)
