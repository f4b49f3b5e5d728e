"""Recursions of a Gaussian chain in NumPy, for few steps; see `chains.gaussian_chains`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrsm
from scipy.linalg.lapack import dpotrf, dpotrs

from streamem.kernels.chains.limits import FORGOTTEN, SETTLED
from streamem.kernels.plain.features import quietly

Array = NDArray[Any]


@quietly
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
    """Fills what the way forward needs, and the information at the first step of each sequence."""
    used, nothing, nothing_h = 0, np.zeros_like(last), np.zeros_like(last_h)
    kind_of = kinds.tolist()
    for s in range(len(spans) - 1, -1, -1):
        begin, stop = spans[s].tolist()
        now, now_h = (last, last_h) if s == len(spans) - 1 else (nothing, nothing_h)
        settled, kind = False, -1
        for t in range(stop - 1, begin, -1):
            same = kind_of[t] == kind
            kind = kind_of[t]
            sum_h = now_h + h[t]
            if not (settled and same):
                new, volumes[used] = _through(now + told[kind], a, g, slots[used])
                settled = same and _agree(new, now)
                now, used = new, used + 1
            slot_of[t] = used - 1
            q[t] = slots[used - 1, 0] @ sum_h
            now_h = sum_h @ slots[used - 1, 2]
        first[s] = now + told[kind_of[begin]] if stop > begin else now
        first_h[s] = now_h + h[begin] if stop > begin else now_h


def _through(now: Array, a: Array, g: Array, slot: Array) -> tuple[Array, float]:
    """Information through a transition, and log |M|; fills its slot."""
    b = now @ g
    low, _ = dpotrf(np.eye(len(a)) + g.T @ b, lower=1)
    y, _ = dpotrs(low, b.T, lower=1)
    slot[0], _ = dpotrs(low, g.T, lower=1)
    slot[1] = y @ a
    slot[2] = (np.eye(len(a)) - g @ y) @ a
    new = slot[2].T @ now @ slot[2] + slot[1].T @ slot[1]
    return (new + new.T) / 2.0, float(2.0 * np.log(np.diagonal(low)).sum())


def _agree(one: Array, other: Array) -> bool:
    size = np.sqrt(np.diagonal(one))
    return bool((np.abs(one - other) <= SETTLED * len(one) * np.outer(size, size)).all())


@quietly
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
    """Smoothed states forward: fills means (n, k), sums covariances; Σ w‖u‖² and Σ w log |M| of the transitions."""
    driven, volume, keep = 0.0, 0.0, len(every) > 0
    kind_of, numbers = kinds.tolist(), slot_of.tolist()
    for s, (begin, stop) in enumerate(spans.tolist()):
        if stop == begin:
            continue
        weight, now, mean = float(weights[s]), spreads[s], means[begin]
        by_kind[kind_of[begin]] += weight * now
        if keep:
            every[begin] = now
        settled, before, size = False, -1, 0.0
        for t in range(begin + 1, stop):
            number = numbers[t]
            slot = slots[number]
            u = q[t] - slot[1] @ mean
            mean = means[t] = a @ mean + g @ u
            size += float(u @ u)
            volume += weight * float(volumes[number])
            if not (settled and number == before):
                across = slot[2] @ now
                new = across @ slot[2].T + g @ slot[0]
                new = (new + new.T) / 2.0
                settled = number == before and _agree(new, now)
                moved[0] += weight * now
                now, before = new, number
            else:
                moved[0] += weight * now
            moved[1] += weight * across
            moved[2] += weight * now
            by_kind[kind_of[t]] += weight * now
            if keep:
                every[t] = now
        driven += weight * size
    return driven, volume


@quietly
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
    """Kalman's filter over steps, of a state x = B δ + m of covariance P, where δ is unknown."""
    k, r = len(a), seen.shape[1]
    b, p, m = state[0], state[1], state_h[0]
    largest = np.abs(b).max()
    depends, settled, kind, kind_of = bool(largest > 0.0), False, -1, kinds.tolist()
    for t in range(begin, stop):
        own = seen[kind_of[t]]
        if t > begin:
            m[:] = a @ m
            b[:] = a @ b
        if not (settled and kind_of[t] == kind):
            old = p.copy()
            if t > begin:
                p[:] = a @ p @ a.T + noise
            low, _ = dpotrf(np.eye(r) + own @ p @ own.T, lower=1)
            gain = dpotrs(low, own @ p, lower=1)[0].T
            left, log_det = np.eye(k) - gain @ own, 2.0 * np.log(np.diagonal(low)).sum()
            new = left @ p @ left.T + gain @ gain.T
            p[:] = (new + new.T) / 2.0
            settled = t > begin and kind_of[t] == kind and _agree(p, old)
            kind = kind_of[t]
        e = z[t] - own @ m
        f = dtrsm(1.0, low, e[:, None], lower=1)[:, 0]
        heights[t] = -0.5 * (float(f @ f) + log_det)
        if depends:
            back = dtrsm(1.0, low, own @ b, lower=1)
            state[2] += back.T @ back
            state_h[1] += back.T @ f
            b[:] = left @ b
            if np.abs(b).max() < FORGOTTEN * largest:
                b[:], depends = 0.0, False
        m += gain @ e
        if len(means):
            means[t], every[t] = m, p
