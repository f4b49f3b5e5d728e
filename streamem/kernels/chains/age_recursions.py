"""Scaled forward–backward of a chain whose states have ages, compiled; cost K·D + K² a step. Imports Numba.

Sub-states are (k, a) with a < D the age less one: (k, a) → (k, a + 1) with probability stay[k, a], the last to itself,
and (k, a) → (j, 0) with leave[k, a]·moves[k, j]; densities depend on k alone (Langrock & Zucchini 2011).

Scaling as in `forward_backward`, but of every step: v_t = (v_{t−1} A)∘b_t / c_{t−1} with c the sum of v, u_t =
b_t∘β_t / c_{t−1}, β_{t−1} = A u_t, so that Σ v_t∘β_t = 1 for all t. No v is let below `FLOOR`; where the posterior
mass of such entries exceeds `TAINTED`, the sequence is left to logarithms. All v would be n·K·D numbers: those of some
steps are kept, and between them they are computed again on the way back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.age_logs import copied
from streamem.kernels.chains.limits import FLOOR, LEAST_SUM, TAINTED
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


@compiled
def age_recursions(
    b: Array,
    peaks: Array,
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
    """Log-likelihood of one sequence in nats, −inf where logarithms are needed; then no count was changed.

    Parameters
    ----------
    b, peaks : (n, width) densities over the largest of their step, and the logarithms of those (n,)
    entry : (K, D) probabilities of the sub-state of the first step, or, if `cut`, of that before it
    exit : (K, D) likelihoods of what follows the last step
    moves : (1, K, K), or a matrix for each transition
    leave, stay : (K, D)
    held : (m, K, D) for the v of a block of steps
    marks : (⌈(n + 1) / m⌉, K, D) for the first v of every block
    gamma : (n, width) weighted posteriors of the states, filled
    leaves, stays : (K, D) weighted expected counts, added to; that across a cut included
    transitions : as moves, likewise
    """
    shift = 1 if cut else 0
    steps, k, d, block = b.shape[0] + shift, leave.shape[0], leave.shape[1], held.shape[0]
    sums = np.empty(steps)
    now, then = np.zeros((k, d)), np.zeros((k, d))
    each, young = 1 if moves.shape[0] > 1 else 0, not cut
    for i in range(k):
        for a in range(1, d):
            young = young and not entry[i, a] > 0.0
    reach, total = 1 if young else d, 0.0
    for i in range(k):
        for a in range(reach):
            value = entry[i, a] if cut else entry[i, a] * b[0, i]
            now[i, a] = value if value > FLOOR else FLOOR
            total += now[i, a]
    sums[0] = 1.0 if cut else total
    if not total > LEAST_SUM:
        return -np.inf
    known = 0.0 if cut else np.log(total) + peaks[0]
    copied(marks[0], now)
    for s in range(1, steps):
        total = _advance(then, now, b[s - shift], 1.0 / sums[s - 1], moves[each * (s - 1)], leave, stay, reach)
        now, then = then, now
        reach = min(reach + 1, d)
        if s % block == 0:
            copied(marks[s // block], now)
        sums[s] = total
        known += np.log(total) + peaks[s - shift]
        if not total > LEAST_SUM:
            return -np.inf
    left, last = 0.0, sums[steps - 1]
    for i in range(k):
        left += _dot(now[i], exit[i], reach)
    if not left > LEAST_SUM * last:
        return -np.inf

    my_leaves, my_stays, my_moves = np.zeros((k, d)), np.zeros((k, d)), np.zeros(moves.shape)
    u, beta, taint, out = np.empty((k, d)), np.empty((k, d)), 0.0, np.empty(k)
    for j in range((steps - 1) // block, -1, -1):
        begin, stop = j * block, min((j + 1) * block, steps)
        copied(held[0], marks[j])
        for s in range(begin + 1, stop):
            earlier, move = min(s, d) if young else d, moves[each * (s - 1)]
            _advance(held[s - begin], held[s - begin - 1], b[s - shift], 1.0 / sums[s - 1], move, leave, stay, earlier)
        for s in range(stop - 1, begin - 1, -1):
            v, top, seen = held[s - begin], min(s + 1, d) if young else d, s - shift
            if s == steps - 1:
                for i in range(k):
                    for a in range(top):
                        beta[i, a] = exit[i, a] / left
            else:
                _retreat(beta, u, v, moves[each * s], leave, stay, top, my_leaves, my_stays)
                for i in range(k):
                    out[i] = _dot(v[i], leave[i], top)
                    for m in range(k):
                        my_moves[each * s, i, m] += out[i] * u[m, 0]
            for i in range(k):
                taint += _tainted(v[i], beta[i], top)
                if seen >= 0:
                    gamma[seen, i] = weight * _dot(v[i], beta[i], top)
            if s > 0:
                factor = 1.0 / sums[s - 1]
                for i in range(k):
                    scaled = b[seen, i] * factor
                    for a in range(top):
                        u[i, a] = beta[i, a] * scaled
    if not taint <= TAINTED:  # NaN is a taint too
        return -np.inf
    for i in range(k):
        for a in range(d):
            leaves[i, a] += weight * my_leaves[i, a] * leave[i, a]
            stays[i, a] += weight * my_stays[i, a] * stay[i, a]
    for s in range(moves.shape[0]):
        for i in range(k):
            for m in range(k):
                transitions[s, i, m] += weight * my_moves[s, i, m] * moves[s, i, m]
    return known


@compiled_inside
def _advance(
    out: Array, row: Array, density: Array, factor: float, moves: Array, leave: Array, stay: Array, reach: int
) -> float:
    """The next v into out, of one whose first `reach` ages may have been reached, and its sum."""
    k, d = row.shape
    for i in range(k):
        out[i, 0] = 0.0
    for i in range(k):
        left = _dot(row[i], leave[i], reach)
        for j in range(k):
            out[j, 0] += left * moves[i, j]
    total = 0.0
    for j in range(k):
        scale, mine, before, staying = density[j] * factor, out[j], row[j], stay[j]
        value = mine[0] * scale
        mine[0] = value if value > FLOOR else FLOOR
        for a in range(1, min(reach + 1, d)):
            value = before[a - 1] * staying[a - 1] * scale
            mine[a] = value if value > FLOOR else FLOOR
        if reach == d:
            mine[d - 1] += before[d - 1] * staying[d - 1] * scale
        total += _sum(mine, min(reach + 1, d))
    return total


@compiled_inside
def _retreat(
    beta: Array, u: Array, v: Array, moves: Array, leave: Array, stay: Array, top: int, leaves: Array, stays: Array
) -> None:
    """The β of a step from the u of the next one, and their products with v added to counts."""
    k, d = v.shape
    for i in range(k):
        ahead = 0.0
        for j in range(k):
            ahead += moves[i, j] * u[j, 0]
        own, before, after, going, staying = beta[i], v[i], u[i], leave[i], stay[i]
        left, stayed = leaves[i], stays[i]
        for a in range(min(top, d - 1)):
            own[a] = staying[a] * after[a + 1] + going[a] * ahead
            left[a] += before[a] * ahead
            stayed[a] += before[a] * after[a + 1]
        if top == d:
            own[d - 1] = staying[d - 1] * after[d - 1] + going[d - 1] * ahead
            left[d - 1] += before[d - 1] * ahead
            stayed[d - 1] += before[d - 1] * after[d - 1]


@compiled_inside
def _sum(values: Array, n: int) -> float:
    """Four sums at once, so that none waits for the one before."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for a in range(0, whole, 4):
        s0 += values[a]
        s1 += values[a + 1]
        s2 += values[a + 2]
        s3 += values[a + 3]
    for a in range(whole, n):
        s0 += values[a]
    return (s0 + s1) + (s2 + s3)


@compiled_inside
def _dot(left: Array, right: Array, n: int) -> float:
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for a in range(0, whole, 4):
        s0 += left[a] * right[a]
        s1 += left[a + 1] * right[a + 1]
        s2 += left[a + 2] * right[a + 2]
        s3 += left[a + 3] * right[a + 3]
    for a in range(whole, n):
        s0 += left[a] * right[a]
    return (s0 + s1) + (s2 + s3)


@compiled_inside
def _tainted(v: Array, beta: Array, n: int) -> float:
    """Posterior mass of what was raised to the floor."""
    total = 0.0
    for a in range(n):
        total += v[a] * beta[a] if v[a] <= FLOOR else 0.0 * beta[a]
    return total
