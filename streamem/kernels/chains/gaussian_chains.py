"""Recursions of a Gaussian chain: information backward, smoothed states forward, and the filter. Imports Numba.

x_t = A x_{t−1} + G u_t with u_t ~ N(0, I), and step t is observed as z_t = T x_t + ε, ε ~ N(0, I), T one of few
matrices. Letters in shapes: n steps, s sequences, k states, p kinds of observations, r rows of T, m slots.

Backward (`gaussian_information`) goes the information Λ, η that a step and all that follow hold about its state. What
the way forward needs of a transition lies in a slot, and once Λ no longer changes all transitions share one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.limits import FORGOTTEN, SETTLED
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


@compiled
def gaussian_information(
    spans: Array,
    kinds: Array,
    told: Array,
    h: Array,
    a: Array,
    g: Array,
    last: Array,
    last_h: Array,
    slots: Array,
    slot_of: Array,
    q: Array,
    first: Array,
    first_h: Array,
) -> None:
    """Fills what the way forward needs, and the information at the first step of each sequence.

    Parameters
    ----------
    spans : (s, 2) int64 first step and the one after the last
    kinds : (n,) int64 of observation
    told : (p, k, k) TᵀT
    h : (n, k) Tᵀz
    a, g : (k, k)
    last, last_h : (k, k), (k,) what follows the last sequence tells of its last state
    slots : (m, 5, k, k) to fill: M⁻¹Gᵀ, M⁻¹GᵀΛA, F = A − G·M⁻¹GᵀΛA, Σ = G M⁻¹ Gᵀ, and log |M| in the first of the last,
        where M = I + GᵀΛG
    slot_of : (n,) int64 to fill, of the transition into each step but the first of a sequence
    q : (n, k) to fill, M⁻¹Gᵀη of that transition
    first, first_h : (s, k, k), (s, k) to fill
    """
    k = a.shape[0]
    work = np.empty((5, k, k))
    now, now_h, new, sum_h = np.zeros((k, k)), np.zeros(k), np.empty((k, k)), np.empty(k)
    used = 0
    for s in range(spans.shape[0] - 1, -1, -1):
        begin, stop = spans[s, 0], spans[s, 1]
        for i in range(k):
            now_h[i] = last_h[i] if s == spans.shape[0] - 1 else 0.0
            for j in range(k):
                now[i, j] = last[i, j] if s == spans.shape[0] - 1 else 0.0
        settled, kind = False, -1
        for t in range(stop - 1, begin, -1):
            if kinds[t] != kind:
                settled, kind = False, kinds[t]
            for i in range(k):
                sum_h[i] = now_h[i] + h[t, i]
            if not settled:
                for i in range(k):
                    for j in range(k):
                        now[i, j] += told[kind, i, j]
                _through(now, a, g, slots[used], work, new)
                same = t + 1 < stop and kinds[t + 1] == kind
                settled = same and _agree(new, work[4])
                for i in range(k):
                    for j in range(k):
                        now[i, j] = work[4, i, j] = new[i, j]
                used += 1
            slot = slots[used - 1]
            slot_of[t] = used - 1
            for i in range(k):
                value, back = 0.0, 0.0
                for j in range(k):
                    value += slot[0, i, j] * sum_h[j]
                    back += slot[2, j, i] * sum_h[j]
                q[t, i] = value
                now_h[i] = back
        for i in range(k):
            first_h[s, i] = now_h[i] + (h[begin, i] if stop > begin else 0.0)
            for j in range(k):
                first[s, i, j] = now[i, j] + (told[kinds[begin], i, j] if stop > begin else 0.0)


@compiled_inside
def _through(now: Array, a: Array, g: Array, slot: Array, work: Array, new: Array) -> None:
    """Information through a transition, and its slot; work[4] stays."""
    k = a.shape[0]
    b, low, y, z = work[0], work[1], work[2], work[3]
    for i in range(k):
        for j in range(k):
            total = 0.0
            for o in range(k):
                total += now[i, o] * g[o, j]
            b[i, j] = total  # ΛG
    for i in range(k):
        for j in range(i + 1):
            total = 1.0 if i == j else 0.0
            for o in range(k):
                total += g[o, i] * b[o, j]
            low[i, j] = total  # M
    log_det = 2.0 * _factorized(low)
    _solved(low, g, slot[0])  # M⁻¹Gᵀ
    _solved(low, b, y)  # M⁻¹GᵀΛ
    for i in range(k):
        for j in range(k):
            total = 0.0
            for o in range(k):
                total += g[i, o] * y[o, j]
            z[i, j] = (1.0 if i == j else 0.0) - total  # (I + QΛ)⁻¹
    for i in range(k):
        for j in range(k):
            value, forward, spread = 0.0, 0.0, 0.0
            for o in range(k):
                value += y[i, o] * a[o, j]
                forward += z[i, o] * a[o, j]
                spread += g[i, o] * slot[0, o, j]
            slot[1, i, j], slot[2, i, j], slot[3, i, j] = value, forward, spread
    slot[4, 0, 0] = log_det
    # AᵀΛ(I + QΛ)⁻¹A = FᵀΛF + (M⁻¹GᵀΛA)ᵀ(M⁻¹GᵀΛA): nothing is subtracted.
    for i in range(k):
        for j in range(k):
            total = 0.0
            for o in range(k):
                total += now[i, o] * slot[2, o, j]
            b[i, j] = total
    for i in range(k):
        for j in range(i + 1):
            total = 0.0
            for o in range(k):
                total += slot[2, o, i] * b[o, j] + slot[1, o, i] * slot[1, o, j]
            new[i, j] = new[j, i] = total


@compiled_inside
def _product(left: Array, right: Array, out: Array) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for o in range(right.shape[0]):
                total += left[i, o] * right[o, j]
            out[i, j] = total


@compiled_inside
def _product_transposed(left: Array, right: Array, out: Array) -> None:
    """out = left rightᵀ."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for o in range(right.shape[1]):
                total += left[i, o] * right[j, o]
            out[i, j] = total


@compiled_inside
def _add_one(matrix: Array, one: float) -> None:
    """matrix + one·I."""
    for i in range(matrix.shape[0]):
        matrix[i, i] += one


@compiled_inside
def _factorized(matrix: Array) -> float:
    """Cholesky's factor into the lower triangle of a matrix that is there, and the logarithm of its determinant."""
    total = 0.0
    for j in range(matrix.shape[0]):
        pivot = matrix[j, j]
        for o in range(j):
            pivot -= matrix[j, o] * matrix[j, o]
        pivot = np.sqrt(pivot)
        total += np.log(pivot)
        matrix[j, j] = pivot
        for i in range(j + 1, matrix.shape[0]):
            value = matrix[i, j]
            for o in range(j):
                value -= matrix[i, o] * matrix[j, o]
            matrix[i, j] = value / pivot
    return total


@compiled_inside
def _solved(low: Array, right: Array, out: Array) -> None:
    """out = (L Lᵀ)⁻¹ rightᵀ."""
    r = low.shape[0]
    for c in range(out.shape[1]):
        for i in range(r):
            value = right[c, i]
            for o in range(i):
                value -= low[i, o] * out[o, c]
            out[i, c] = value / low[i, i]
        for i in range(r - 1, -1, -1):
            value = out[i, c]
            for o in range(i + 1, r):
                value -= low[o, i] * out[o, c]
            out[i, c] = value / low[i, i]


@compiled_inside
def _agree(one: Array, other: Array) -> bool:
    """Whether two covariances or informations differ by their rounding only."""
    k = one.shape[0]
    for i in range(k):
        for j in range(k):
            if not abs(one[i, j] - other[i, j]) <= SETTLED * k * np.sqrt(one[i, i] * one[j, j]):
                return False
    return True


@compiled
def gaussian_states(
    spans: Array,
    kinds: Array,
    weights: Array,
    a: Array,
    g: Array,
    slots: Array,
    slot_of: Array,
    q: Array,
    means: Array,
    spreads: Array,
    by_kind: Array,
    moved: Array,
    every: Array,
) -> tuple[float, float]:
    """Smoothed states forward: fills means (n, k), sums covariances; the log-likelihood of what drove the states.

    Parameters
    ----------
    spans, kinds, a, g, slots, slot_of, q : see `gaussian_information`
    weights : (s,)
    means : (n, k), those of the first steps of sequences are there
    spreads : (s, k, k) covariances of these; they are lost
    by_kind : (p, k, k) to which weighted covariances are added, by the kind of the step
    moved : (3, k, k) to which those of transitions are added: of the state before, of the state after with it, after
    every : (n, k, k) to fill with all covariances, or of no rows where they are not wanted

    Returns
    -------
    Σ w‖u‖², Σ w log |M| of the transitions
    """
    k = a.shape[0]
    u, across, new = np.empty(k), np.empty((k, k)), np.empty((k, k))
    driven, volume = 0.0, 0.0
    keep = every.shape[0] > 0
    for s in range(spans.shape[0]):
        begin, stop, weight = spans[s, 0], spans[s, 1], weights[s]
        if stop == begin:
            continue
        now = spreads[s]
        for i in range(k):
            for j in range(k):
                by_kind[kinds[begin], i, j] += weight * now[i, j]
        if keep:
            _copied(now, every[begin])
        settled, before = False, -1
        run = 0.0  # of steps with the same covariances, which are added together
        for t in range(begin + 1, stop):
            slot = slots[slot_of[t]]
            size = 0.0
            for i in range(k):
                value = q[t, i]
                for j in range(k):
                    value -= slot[1, i, j] * means[t - 1, j]
                u[i] = value
                size += value * value
            for i in range(k):
                value = 0.0
                for j in range(k):
                    value += a[i, j] * means[t - 1, j] + g[i, j] * u[j]
                means[t, i] = value
            driven += weight * size
            volume += weight * slot[4, 0, 0]
            if settled and slot_of[t] == before:
                run += 1.0
            else:
                if run > 0.0:
                    _add(run * weight, now, across, now, by_kind[kinds[t - 1]], moved)
                    run = 0.0
                same = slot_of[t] == before
                for i in range(k):
                    for j in range(k):
                        total = 0.0
                        for o in range(k):
                            total += slot[2, i, o] * now[o, j]
                        across[i, j] = total
                for i in range(k):
                    for j in range(i + 1):
                        total = slot[3, i, j]
                        for o in range(k):
                            total += across[i, o] * slot[2, j, o]
                        new[i, j] = new[j, i] = total
                _add(weight, now, across, new, by_kind[kinds[t]], moved)
                settled = same and _agree(new, now)
                _copied(new, now)
                before = slot_of[t]
            if keep:
                _copied(now, every[t])
        if run > 0.0:
            _add(run * weight, now, across, now, by_kind[kinds[stop - 1]], moved)
    return driven, volume


@compiled_inside
def _add(weight: float, before: Array, across: Array, after: Array, by_kind: Array, moved: Array) -> None:
    k = before.shape[0]
    for i in range(k):
        for j in range(k):
            moved[0, i, j] += weight * before[i, j]
            moved[1, i, j] += weight * across[i, j]
            moved[2, i, j] += weight * after[i, j]
            by_kind[i, j] += weight * after[i, j]


@compiled
def gaussian_filter(
    begin: int,
    stop: int,
    kinds: Array,
    seen: Array,
    z: Array,
    a: Array,
    noise: Array,
    state: Array,
    state_h: Array,
    means: Array,
    every: Array,
    heights: Array,
) -> None:
    """Kalman's filter over steps, of a state that may depend on an unknown δ: x = B δ + m, covariance P.

    Parameters
    ----------
    seen : (p, r, k) T
    z : (n, r)
    noise : (k, k) G Gᵀ
    state : (3, k, k) B, P of the first step before it is seen, and what steps tell of δ; in place, to those of the last
    state_h : (2, k) m, and the other half of what steps tell of δ
    means, every : (n, k), (n, k, k) to fill with filtered states of a B of 0, or of no rows
    heights : (n,) to fill with −½(log |S| + eᵀS⁻¹e), e = z − T m before the step is seen, S its covariance
    """
    k, r = a.shape[0], seen.shape[1]
    b, p, m = state[0], state[1], state_h[0]
    old, left, work, gain = np.empty((k, k)), np.empty((k, k)), np.empty((k, k)), np.empty((k, r))
    low, e, f, moved = np.empty((r, r)), np.empty(r), np.empty(r), np.empty(k)
    right, solved = np.empty((k, r)), np.empty((r, k))
    largest = _largest(b)
    depends, settled, log_det, kind = largest > 0.0, False, 0.0, -1
    for t in range(begin, stop):
        own = seen[kinds[t]]
        if t > begin:
            _moved(a, m, moved)
            if depends:
                _times(a, b, work)
        if not settled or kinds[t] != kind:
            _copied(p, old)
            if t > begin:
                _predicted(a, noise, p, work)
            log_det = _gained(own, p, right, low, solved, gain, left)
            _joseph(left, gain, p, work)
            settled = t > begin and kinds[t] == kind and _agree(p, old)
            kind = kinds[t]
        size = 0.0
        for i in range(r):
            value = z[t, i]
            for j in range(k):
                value -= own[i, j] * m[j]
            e[i] = value
            for o in range(i):
                value -= low[i, o] * f[o]
            f[i] = value / low[i, i]
            size += f[i] * f[i]
        heights[t] = -0.5 * (size + log_det)
        if depends:
            _tell(own, b, low, f, solved, state[2], state_h[1])
            _times(left, b, work)
            if _largest(b) < FORGOTTEN * largest:
                depends = False
                for i in range(k):
                    for j in range(k):
                        b[i, j] = 0.0
        for i in range(k):
            for j in range(r):
                m[i] += gain[i, j] * e[j]
        if means.shape[0] > 0:
            for i in range(k):
                means[t, i] = m[i]
            _copied(p, every[t])


@compiled_inside
def _largest(matrix: Array) -> float:
    peak = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            peak = max(peak, abs(matrix[i, j]))
    return peak


@compiled_inside
def _copied(source: Array, out: Array) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]


@compiled_inside
def _moved(a: Array, m: Array, work: Array) -> None:
    """m ← A m."""
    k = m.shape[0]
    for i in range(k):
        value = 0.0
        for j in range(k):
            value += a[i, j] * m[j]
        work[i] = value
    for i in range(k):
        m[i] = work[i]


@compiled_inside
def _predicted(a: Array, noise: Array, p: Array, work: Array) -> None:
    """P ← A P Aᵀ + Q."""
    _product(a, p, work)
    _product_transposed(work, a, p)
    for i in range(p.shape[0]):
        for j in range(i + 1):
            p[i, j] = p[j, i] = p[i, j] + noise[i, j]


@compiled_inside
def _times(left: Array, b: Array, work: Array) -> None:
    """b ← left b."""
    _product(left, b, work)
    _copied(work, b)


@compiled_inside
def _gained(own: Array, p: Array, right: Array, low: Array, solved: Array, gain: Array, left: Array) -> float:
    """The gain K = P TᵀS⁻¹ and I − K T, where L Lᵀ = S = T P Tᵀ + I; log |S|."""
    _product_transposed(p, own, right)
    _product(own, right, low)
    _add_one(low, 1.0)
    log_det = 2.0 * _factorized(low)
    _solved(low, right, solved)
    for i in range(gain.shape[0]):
        for j in range(gain.shape[1]):
            gain[i, j] = -solved[j, i]
    _product(gain, own, left)
    _add_one(left, 1.0)
    for i in range(gain.shape[0]):
        for j in range(gain.shape[1]):
            gain[i, j] = -gain[i, j]
    return log_det


@compiled_inside
def _joseph(left: Array, gain: Array, p: Array, work: Array) -> None:
    """P ← (I − K T) P (I − K T)ᵀ + K Kᵀ."""
    _product(left, p, work)
    _product_transposed(work, left, p)
    _product_transposed(gain, gain, work)
    for i in range(p.shape[0]):
        for j in range(i + 1):
            p[i, j] = p[j, i] = p[i, j] + work[i, j]


@compiled_inside
def _tell(own: Array, b: Array, low: Array, f: Array, back: Array, lam: Array, eta: Array) -> None:
    """What a step tells of δ: Y = L⁻¹T B, of which YᵀY and YᵀL⁻¹e are added."""
    r, k = back.shape
    for i in range(r):
        for j in range(k):
            value = 0.0
            for o in range(k):
                value += own[i, o] * b[o, j]
            for o in range(i):
                value -= low[i, o] * back[o, j]
            back[i, j] = value / low[i, i]
    for i in range(k):
        for o in range(r):
            eta[i] += back[o, i] * f[o]
        for j in range(k):
            total = 0.0
            for o in range(r):
                total += back[o, i] * back[o, j]
            lam[i, j] += total
