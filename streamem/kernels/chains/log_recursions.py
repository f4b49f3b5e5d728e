"""The recursions of a hidden Markov chain in logarithms: slower, but nothing underflows. Compiled; imports Numba.

Letters as in `forward_backward`; log-densities are (n, K), and −inf is an exact zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled, compiled_inside, exp_nonpositive

Array = NDArray[Any]


@compiled
def log_forward(log_prob: Array, entry: Array, matrix: Array, alpha: Array, gains: Array) -> float:
    """Log-probabilities of the state given the past, (n, K), log-likelihood of each step (n,), and their sum."""
    n, k = log_prob.shape
    predicted, peak = np.empty(k), np.empty(k)
    total = 0.0
    for t in range(n):
        if t == 0:
            for j in range(k):
                predicted[j] = entry[j]
        else:
            _log_product(alpha[t - 1], matrix, predicted, peak)
        for j in range(k):
            alpha[t, j] = predicted[j] + log_prob[t, j]
        gains[t] = _log_sum(alpha[t])
        total += gains[t]
        if not np.isfinite(gains[t]):
            return total
        for j in range(k):
            alpha[t, j] -= gains[t]
    return total


@compiled
def log_backward(
    log_prob: Array, exit: Array, transposed: Array, alpha: Array, gains: Array, weight: float, transitions: Array
) -> None:
    """Turns alpha into weighted γ and adds weighted ξ to transitions; `exit` (K,) is log-likelihood of what follows."""
    n, k = log_prob.shape
    beta, ahead, peak = exit - _log_sum(alpha[n - 1] + exit), np.empty(k), np.empty(k)
    for t in range(n - 1, -1, -1):
        if t < n - 1:
            for i in range(k):
                _add_exponentials(transitions[i], transposed[:, i] + (alpha[t, i] + ahead), weight)
            _log_product(ahead, transposed, beta, peak)
        for j in range(k):
            ahead[j] = log_prob[t, j] + beta[j] - gains[t]
        gamma = alpha[t] + beta
        alpha[t] = 0.0
        _add_exponentials(alpha[t], gamma, weight)


@compiled_inside
def _add_exponentials(sums: Array, logs: Array, weight: float) -> None:
    """In a function of its own: Numba warns where one inlines the exponential twice."""
    for j in range(sums.size):
        sums[j] += weight * exp_nonpositive(logs[j])


@compiled
def log_scores(log_prob: Array, entry: Array, matrix: Array) -> Array:
    """Log-probability (K,) of all paths to every state at the last step."""
    now, then, peak = entry + log_prob[0], np.empty(entry.size), np.empty(entry.size)
    level = 0.0
    for t in range(1, log_prob.shape[0]):
        _log_product(now, matrix, then, peak)
        then += log_prob[t]
        highest = then.max()
        highest = highest if np.isfinite(highest) else 0.0
        level += highest
        for j in range(entry.size):
            now[j] = then[j] - highest
    return now + level


@compiled_inside
def _log_product(row: Array, matrix: Array, out: Array, peak: Array) -> None:
    """out[j] = log Σ_i exp(row[i] + matrix[i, j])."""
    k = row.size
    peak[:] = -np.inf
    out[:] = 0.0
    for i in range(k):
        for j in range(k):
            value = row[i] + matrix[i, j]
            peak[j] = value if value > peak[j] else peak[j]
    for i in range(k):
        for j in range(k):
            out[j] += exp_nonpositive(row[i] + matrix[i, j] - peak[j])
    for j in range(k):
        out[j] = peak[j] + np.log(out[j]) if peak[j] > -np.inf else -np.inf


@compiled_inside
def _log_sum(values: Array) -> float:
    """log Σ exp; −inf where all are, NaN where one is."""
    highest = -np.inf
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
