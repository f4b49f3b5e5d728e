"""Recursions of a chain whose states have ages, in logarithms: messages across cuts, and what scaling cannot do.

Compiled; imports Numba. Letters as in `age_recursions`; −inf is an exact zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled, compiled_inside, exp_nonpositive

Array = NDArray[Any]


@compiled
def age_log_forward(
    log_b: Array, entry: Array, cut: bool, moves: Array, leave: Array, stay: Array
) -> tuple[Array, float]:
    """Log-probabilities (K, D) of the sub-state after steps (n, K), n ≥ 1, given the past, and of all steps, in nats.

    `entry` is that of the first step, or if `cut` that of the step before it; `moves` (1, K, K), or a matrix for each
    transition.
    """
    k, d = entry.shape
    each, shift = 1 if moves.shape[0] > 1 else 0, 1 if cut else 0
    now, then = np.empty((k, d)), np.empty((k, d))
    copied(now, entry)
    total = 0.0
    for t in range(log_b.shape[0]):
        if t > 0 or cut:
            _log_advance(then, now, moves[each * (t + shift - 1)], leave, stay)
            now, then = then, now
        total += _emit(now, log_b[t])
    return now, total


@compiled
def age_log_backward(log_b: Array, exit: Array, moves: Array, leave: Array, stay: Array) -> Array:
    """Log-likelihoods (K, D), up to a constant, of steps (n, K) and what follows (K, D), given the one before them."""
    k, d = exit.shape
    each = 1 if moves.shape[0] > 1 else 0
    beta, ahead = np.empty((k, d)), np.empty((k, d))
    copied(beta, exit)
    for t in range(log_b.shape[0] - 1, -1, -1):
        highest = -np.inf
        for i in range(k):
            for a in range(d):
                ahead[i, a] = beta[i, a] + log_b[t, i]
                highest = max(highest, ahead[i, a])
        if not highest > -np.inf:
            copied(beta, ahead)
            return beta
        for i in range(k):
            for a in range(d):
                ahead[i, a] -= highest
        _log_retreat(beta, ahead, moves[each * t], leave, stay)
    return beta


@compiled
def age_log_recursions(
    log_b: Array,
    entry: Array,
    cut: bool,
    exit: Array,
    moves: Array,
    leave: Array,
    stay: Array,
    weight: float,
    held: Array,
    marks: Array,
    gamma: Array,
    leaves: Array,
    stays: Array,
    transitions: Array,
) -> float:
    """`age_recursions` of log-densities (n, K), entries, exits and probabilities; finite if any path is."""
    shift = 1 if cut else 0
    steps, k, d, block = log_b.shape[0] + shift, leave.shape[0], leave.shape[1], held.shape[0]
    gains, each = np.zeros(steps), 1 if moves.shape[0] > 1 else 0
    now, then = np.empty((k, d)), np.empty((k, d))
    copied(now, entry)
    known = 0.0
    for s in range(steps):
        if s > 0:
            _log_advance(then, now, moves[each * (s - 1)], leave, stay)
            now, then = then, now
        if s >= shift:
            gains[s] = _emit(now, log_b[s - shift])
            known += gains[s]
            if not np.isfinite(gains[s]):
                return gains[s]
        if s % block == 0:
            copied(marks[s // block], now)
    beta, ahead, ends = np.empty((k, d)), np.empty((k, d)), np.empty(k)
    for i in range(k):
        ends[i] = _log_sum(now[i], exit[i])
    left = _log_sum(ends, np.zeros(k))
    if not np.isfinite(left):
        return -np.inf
    for i in range(k):
        for a in range(d):
            beta[i, a] = exit[i, a] - left
    for j in range((steps - 1) // block, -1, -1):
        begin, stop = j * block, min((j + 1) * block, steps)
        copied(held[0], marks[j])
        for s in range(begin + 1, stop):
            _log_advance(held[s - begin], held[s - begin - 1], moves[each * (s - 1)], leave, stay)
            _emit(held[s - begin], log_b[s - shift])
        for s in range(stop - 1, begin - 1, -1):
            v = held[s - begin]
            if s < steps - 1:
                place = each * s
                _count(v, ahead, moves[place], leave, stay, weight, leaves, stays, transitions[place])
                _log_retreat(beta, ahead, moves[place], leave, stay)
            if s >= shift:
                for i in range(k):
                    gamma[s - shift, i] = weight * _mass(v[i], beta[i])
                    for a in range(d):
                        ahead[i, a] = beta[i, a] + (log_b[s - shift, i] - gains[s])
    return known


@compiled_inside
def _log_advance(out: Array, row: Array, moves: Array, leave: Array, stay: Array) -> None:
    """The sub-state of the next step, its density left out."""
    k, d = row.shape
    left = np.empty(k)
    for i in range(k):
        left[i] = _log_sum(row[i], leave[i])
    for j in range(k):
        out[j, 0] = _log_sum(left, moves[:, j])
        for a in range(1, d):
            out[j, a] = row[j, a - 1] + stay[j, a - 1]
        out[j, d - 1] = _log_of_two(out[j, d - 1], row[j, d - 1] + stay[j, d - 1])


@compiled_inside
def _emit(now: Array, density: Array) -> float:
    """Adds log-densities, and takes off the logarithm of the sum, which is the result."""
    for i in range(now.shape[0]):
        for a in range(now.shape[1]):
            now[i, a] += density[i]
    sums, zeros = np.empty(now.shape[0]), np.zeros(max(now.shape[0], now.shape[1]))
    for i in range(now.shape[0]):
        sums[i] = _log_sum(now[i], zeros)
    gain = _log_sum(sums, zeros)
    if np.isfinite(gain):
        for i in range(now.shape[0]):
            for a in range(now.shape[1]):
                now[i, a] -= gain
    return gain


@compiled_inside
def _log_retreat(beta: Array, ahead: Array, moves: Array, leave: Array, stay: Array) -> None:
    """The β of a step, from what the next one and all behind it tell of its own sub-state."""
    k, d = beta.shape
    for i in range(k):
        gone = _log_sum(moves[i], ahead[:, 0])
        for a in range(d):
            beta[i, a] = _log_of_two(stay[i, a] + ahead[i, min(a + 1, d - 1)], leave[i, a] + gone)


@compiled_inside
def _count(
    v: Array,
    ahead: Array,
    moves: Array,
    leave: Array,
    stay: Array,
    weight: float,
    leaves: Array,
    stays: Array,
    transitions: Array,
) -> None:
    """Expected moves between a step, whose past is v, and the next one."""
    k, d = v.shape
    for i in range(k):
        gone, left = _log_sum(moves[i], ahead[:, 0]), _log_sum(v[i], leave[i])
        for a in range(d):
            leaves[i, a] += weight * _exp(v[i, a] + leave[i, a] + gone)
            stays[i, a] += weight * _exp(v[i, a] + stay[i, a] + ahead[i, min(a + 1, d - 1)])
        for j in range(k):
            transitions[i, j] += weight * _exp(left + moves[i, j] + ahead[j, 0])


@compiled_inside
def copied(out: Array, values: Array) -> None:
    """out (K, D) = values: assigning to a slice takes seconds to compile."""
    for i in range(values.shape[0]):
        for a in range(values.shape[1]):
            out[i, a] = values[i, a]


@compiled_inside
def _mass(v: Array, beta: Array) -> float:
    total = 0.0
    for a in range(v.size):
        total += _exp(v[a] + beta[a])
    return total


@compiled_inside
def _exp(x: float) -> float:
    """In a function of its own: Numba warns where one inlines the exponential twice."""
    return exp_nonpositive(min(x, 0.0))


@compiled_inside
def _log_of_two(one: float, other: float) -> float:
    """log(exp + exp)."""
    high, low = max(one, other), min(one, other)
    return high + np.log1p(_exp(low - high)) if low > -np.inf else high


@compiled_inside
def _log_sum(one: Array, other: Array) -> float:
    """log Σ exp of the sums of two rows, as many as the first has; −inf where all are, NaN where one is."""
    highest = -np.inf
    for i in range(one.size):
        value = one[i] + other[i]
        if np.isnan(value):
            return np.nan
        highest = max(highest, value)
    if not np.isfinite(highest):
        return highest
    total = 0.0
    for i in range(one.size):
        total += _exp(one[i] + other[i] - highest)
    return highest + np.log(total)
