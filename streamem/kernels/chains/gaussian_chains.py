"""Recursions of a Gaussian chain: information backward, smoothed states forward, and the filter. Imports Numba.

x_t = A x_{t−1} + G u_t with u_t ~ N(0, I), and step t is observed as z_t = T x_t + ε, ε ~ N(0, I), T one of few
matrices. Letters in shapes: n steps, s sequences, k states, p kinds of observations, r rows of T, m slots.

Backward (`gaussian_information`) goes the information Λ, η that a step and all that follow hold about its state. What
the way forward needs of a transition lies in a slot, and once Λ no longer changes all transitions share one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.gaussian_steps import (
    MOST,
    added,
    added_all,
    carried,
    log_of_product,
    moved_on,
    predicted,
    through,
    told_back,
    updated,
)
from streamem.kernels.chains.limits import FORGOTTEN, SETTLED
from streamem.machine.compiled import compiled, compiled_inside

Array = NDArray[Any]


class _Recursions(NamedTuple):
    """Compiled for one number of dimensions, which steps know up to `MOST`."""

    information: Callable[..., None]
    states: Callable[..., tuple[float, float]]
    filter: Callable[..., None]


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
    volumes: Array,
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
    slots : (m, 3, k, k) to fill: M⁻¹Gᵀ, M⁻¹GᵀΛA and F = A − G·M⁻¹GᵀΛA, where M = I + GᵀΛG
    volumes : (m,) to fill: log |M|
    slot_of : (n,) int64 to fill, of the transition into each step but the first of a sequence
    q : (n, k) to fill, M⁻¹Gᵀη of that transition
    first, first_h : (s, k, k), (s, k) to fill
    """
    turned = np.ascontiguousarray(g.T)
    run = _recursions(_width(a)).information
    run(spans, kinds, told, h, a, g, turned, last, last_h, slots, volumes, slot_of, q, first, first_h)


def gaussian_states(
    spans: Array,
    kinds: Array,
    weights: Array,
    a: Array,
    g: Array,
    slots: Array,
    volumes: Array,
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
    spans, kinds, a, g, slots, volumes, slot_of, q : see `gaussian_information`
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
    a_turned, turned = np.ascontiguousarray(a.T), np.ascontiguousarray(g.T)
    run = _recursions(_width(a)).states
    return run(
        spans, kinds, weights, a_turned, g, turned, slots, volumes, slot_of, q, means, spreads, by_kind, moved, every
    )


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
    (r, k), width = seen.shape[1:], _width(a)
    if width and r < k:  # T is as large as the state where its size is a constant
        seen, z = np.pad(seen, ((0, 0), (0, k - r), (0, 0))), np.pad(z, ((0, 0), (0, k - r)))
    back, turned = np.ascontiguousarray(np.swapaxes(seen, 1, 2)), np.ascontiguousarray(a.T)
    run = _recursions(width).filter
    run(begin, stop, kinds, seen, back, z, a, turned, noise, state, state_h, means, every, heights)


def _width(a: Array) -> int:
    return len(a) if len(a) <= MOST else 0


@cache
def _recursions(width: int) -> _Recursions:
    @compiled
    def information(
        spans: Array,
        kinds: Array,
        told: Array,
        h: Array,
        a: Array,
        g: Array,
        turned: Array,
        last: Array,
        last_h: Array,
        slots: Array,
        volumes: Array,
        slot_of: Array,
        q: Array,
        first: Array,
        first_h: Array,
    ) -> None:
        k = a.shape[0]
        now, now_h, new, sum_h, pivots = np.zeros((k, k)), np.zeros(k), np.empty((k, k)), np.empty(k), np.empty(k)
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
                    through(now, told[kind], a, g, turned, slots[used], pivots, new, width)
                    volumes[used] = log_of_product(pivots)
                    settled = t + 1 < stop and kinds[t + 1] == kind and _agree(new, now)
                    _copied(new, now)
                    used += 1
                slot_of[t] = used - 1
                told_back(slots[used - 1], sum_h, q[t], now_h, width)
            for i in range(k):
                first_h[s, i] = now_h[i] + (h[begin, i] if stop > begin else 0.0)
                for j in range(k):
                    first[s, i, j] = now[i, j] + (told[kinds[begin], i, j] if stop > begin else 0.0)

    @compiled
    def states(
        spans: Array,
        kinds: Array,
        weights: Array,
        a_turned: Array,
        g: Array,
        turned: Array,
        slots: Array,
        volumes: Array,
        slot_of: Array,
        q: Array,
        means: Array,
        spreads: Array,
        by_kind: Array,
        moved: Array,
        every: Array,
    ) -> tuple[float, float]:
        k = g.shape[0]
        across, new = np.empty((k, k)), np.empty((k, k))
        driven, volume = 0.0, 0.0
        keep = every.shape[0] > 0
        for s in range(spans.shape[0]):
            begin, stop, weight = spans[s, 0], spans[s, 1], weights[s]
            if stop == begin:
                continue
            now = spreads[s]
            added(weight, now, by_kind[kinds[begin]], width)
            if keep:
                _copied(now, every[begin])
            settled, before = False, -1
            run = 0.0  # of steps with the same covariances, which are added together
            for t in range(begin + 1, stop):
                slot = slots[slot_of[t]]
                driven += weight * moved_on(slot, q[t], a_turned, turned, means[t - 1], means[t], width)
                volume += weight * volumes[slot_of[t]]
                if settled and slot_of[t] == before:
                    run += 1.0
                else:
                    if run > 0.0:
                        added_all(run * weight, now, across, now, by_kind[kinds[t - 1]], moved, width)
                        run = 0.0
                    carried(slot, g, now, across, new, width)
                    added_all(weight, now, across, new, by_kind[kinds[t]], moved, width)
                    settled = slot_of[t] == before and _agree(new, now)
                    _copied(new, now)
                    before = slot_of[t]
                if keep:
                    _copied(now, every[t])
            if run > 0.0:
                added_all(run * weight, now, across, now, by_kind[kinds[stop - 1]], moved, width)
        return driven, volume

    @compiled
    def filtered(
        begin: int,
        stop: int,
        kinds: Array,
        seen: Array,
        back: Array,
        z: Array,
        a: Array,
        turned: Array,
        noise: Array,
        state: Array,
        state_h: Array,
        means: Array,
        every: Array,
        heights: Array,
    ) -> None:
        k, r = a.shape[0], seen.shape[1]
        b, p, m = state[0], state[1], state_h[0]
        old, left, work, gain = np.empty((k, k)), np.empty((k, k)), np.empty((k, k)), np.empty((r, k))
        low, pivots, e, f, moved = np.empty((r, r)), np.empty(r), np.empty(r), np.empty(r), np.empty(k)
        solved = np.empty((r, k))
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
                    predicted(p, a, turned, noise, width)
                updated(p, own, back[kinds[t]], low, pivots, gain, left, width)
                log_det = log_of_product(pivots)
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
                f[i] = value
                size += value * value / pivots[i]
            heights[t] = -0.5 * (size + log_det)
            if depends:
                _tell(own, b, low, pivots, f, solved, state[2], state_h[1])
                _times(left.T, b, work)
                if _largest(b) < FORGOTTEN * largest:
                    depends = False
                    for i in range(k):
                        for j in range(k):
                            b[i, j] = 0.0
            for i in range(k):
                for j in range(r):
                    m[i] += gain[j, i] * e[j]
            if means.shape[0] > 0:
                for i in range(k):
                    means[t, i] = m[i]
                _copied(p, every[t])

    return _Recursions(information, states, filtered)


@compiled_inside
def _agree(one: Array, other: Array) -> bool:
    """Whether two covariances or informations differ by their rounding only."""
    k = one.shape[0]
    for i in range(k):
        for j in range(k):
            if not abs(one[i, j] - other[i, j]) <= SETTLED * k * np.sqrt(one[i, i] * one[j, j]):
                return False
    return True


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
def _times(left: Array, b: Array, work: Array) -> None:
    """b ← left b."""
    for i in range(b.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for o in range(b.shape[0]):
                total += left[i, o] * b[o, j]
            work[i, j] = total
    _copied(work, b)


@compiled_inside
def _tell(own: Array, b: Array, low: Array, pivots: Array, f: Array, back: Array, lam: Array, eta: Array) -> None:
    """What a step tells of δ: with Y = L⁻¹T B, YᵀD⁻¹Y and YᵀD⁻¹L⁻¹e are added."""
    r, k = back.shape
    for i in range(r):
        for j in range(k):
            value = 0.0
            for o in range(k):
                value += own[i, o] * b[o, j]
            for o in range(i):
                value -= low[i, o] * back[o, j]
            back[i, j] = value
    for i in range(k):
        for o in range(r):
            eta[i] += back[o, i] * f[o] / pivots[o]
        for j in range(k):
            total = 0.0
            for o in range(r):
                total += back[o, i] * back[o, j] / pivots[o]
            lam[i, j] += total
