"""Scaled forward–backward recursions (Rabiner 1989, §V.A), compiled for a number of states.

Importing this module imports Numba. Emissions come as b (n, width) = exp(log-density − largest of its row), states
filled up with zeros to a multiple of `machine.lanes.LANES`.

Scaling: v_t = (v_{t−1} A)∘b_t, and every fourth b_t is multiplied by what makes v_{t−2} sum to 1, so that neither the
sum nor the division is waited for. With u_t = b_t∘β_t and β_{t−1} = A u_t, the sum of v_t∘β_t is the same for all t:
it is made 1 at the end of a sequence, and γ and ξ need no division at all.

Underflow: no v is let below `FLOOR`. The posterior mass of such entries bounds the relative error of everything else;
a sequence where it exceeds `TAINTED` is left to the recursions in logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.limits import AGREEING, FLOOR, LEAST_SUM, TAINTED
from streamem.kernels.chains.row_products import add_outer, advance, retreat, settle
from streamem.machine.compiled import compiled

Array = NDArray[Any]


class Recursions(NamedTuple):
    """Compiled for one width.

    Attributes
    ----------
    forward : (b, peaks, spans, entries, exits, matrix, v, log_likelihoods)
    backward : (b, spans, exits, weights, transposed, v, log_likelihoods, transitions, visits, begun, counted)
    operator : (b, matrix, rows, scales, shared, least) → whether all rows agree
    """

    forward: Callable[[Array, Array, Array, Array, Array, Array, Array, Array], None]
    backward: Callable[[Array, Array, Array, Array, Array, Array, Array, Array, Array, Array, int], None]
    operator: Callable[[Array, Array, Array, Array, Array, float], bool]


@cache
def recursions(width: int) -> Recursions:
    """Forward and backward for a width."""

    @compiled
    def forward(
        b: Array, peaks: Array, spans: Array, entries: Array, exits: Array, matrix: Array, v: Array, known: Array
    ) -> None:
        """Fills v (n, width) and log-likelihoods (s,), −inf where logarithms are needed; b takes the scaling.

        Sequence s has rows spans[s, 0] … spans[s, 1] − 1; the one before its first is distributed so that the first
        one is as `entries` (s, width); `exits` (s, width) are the likelihoods of what follows, which do not count.
        """
        for s in range(spans.shape[0]):
            start, stop = spans[s, 0], spans[s, 1]
            known[s] = 0.0
            if start == stop:
                continue
            part, level = peaks[start], 0.0
            for j in range(width):
                value = entries[s, j] * b[start, j]
                v[start, j] = value if value > FLOOR else FLOOR
            product, total, log_scale = 1.0, 1.0, 0.0
            for t in range(start + 1, stop):
                phase = (t - start) & 3
                part += peaks[t]
                if phase == 0:
                    level, part = level + part, 0.0
                    factor = 1.0 / total
                    for j in range(width):
                        b[t, j] *= factor
                    product *= total
                    if product < 1e-100:
                        log_scale += np.log(product)
                        product = 1.0
                advance(v[t], v[t - 1], matrix, b[t], FLOOR, width)
                if phase == 2:
                    total = 0.0
                    for j in range(width):
                        total += v[t, j]
                    if not total > LEAST_SUM:
                        log_scale = -np.inf
                        break
            last, left = 0.0, 0.0
            for j in range(width):
                last += v[stop - 1, j]
                left += v[stop - 1, j] * exits[s, j]
            fine = last > LEAST_SUM and left > LEAST_SUM * last
            known[s] = log_scale + np.log(product) + np.log(last) + (level + part) if fine else -np.inf

    @compiled
    def backward(
        b: Array,
        spans: Array,
        exits: Array,
        weights: Array,
        transposed: Array,
        v: Array,
        known: Array,
        transitions: Array,
        visits: Array,
        begun: Array,
        counted: int,
    ) -> None:
        """Weighted γ into v; adds Σ v_t u_{t+1}ᵀ to transitions, Σ γ to visits and first γ to begun.

        First states are those of sequences from `counted` on: others go on from elsewhere.
        Sequences whose log-likelihood is not finite are skipped; it becomes −inf where too much mass was tainted.
        """
        held = np.empty((4, width))
        mine, seen, taint = np.empty((width, width)), np.empty(width), np.empty(width)
        for s in range(spans.shape[0]):
            start, stop = spans[s, 0], spans[s, 1]
            if start == stop or not np.isfinite(known[s]):
                continue
            mine[:] = 0.0
            seen[:] = 0.0
            taint[:] = 0.0
            left = 0.0
            for j in range(width):
                left += v[stop - 1, j] * exits[s, j]
            scale = 1.0 / left
            for j in range(width):
                beta = exits[s, j] * scale
                b[stop - 1, j] *= beta
                held[0, j] = v[stop - 1, j] * beta
            settle(v[stop - 1], held[0], seen, taint, FLOOR, weights[s], width)
            t = stop - 2
            while t >= start:
                if t - start >= 3:
                    for i in range(4):
                        retreat(b[t - i], held[i], b[t - i + 1], transposed, v[t - i], width)
                    add_outer(mine, v, b, t, 4, width)
                    for i in range(4):
                        settle(v[t - i], held[i], seen, taint, FLOOR, weights[s], width)
                    t -= 4
                else:
                    retreat(b[t], held[0], b[t + 1], transposed, v[t], width)
                    add_outer(mine, v, b, t, 1, width)
                    settle(v[t], held[0], seen, taint, FLOOR, weights[s], width)
                    t -= 1
            total = 0.0
            for j in range(width):
                total += taint[j]
            if not (total <= TAINTED):  # NaN is a taint too
                known[s] = -np.inf
                continue
            for i in range(width):
                begun[i] += v[start, i] if s >= counted else 0.0
                visits[i] += weights[s] * seen[i]
                for j in range(width):
                    transitions[i, j] += weights[s] * mine[i, j]

    @compiled
    def operator(b: Array, matrix: Array, rows: Array, scales: Array, shared: Array, least: float) -> bool:
        """rows (m, width) → rows·Π_t matrix·diag(b_t), without factors whose logarithms are added to scales (m,), and
        to shared (1,) those of all rows.

        No entry is let below `least`: with 0 the result is a bound from below, and else from above. Once all rows agree
        but for their factors, one goes on for all; says whether they do.
        """
        now, then = rows, np.empty(rows.shape)
        left = rows.shape[0]  # rows that still go on
        for t in range(b.shape[0]):
            for i in range(left):
                advance(then[i], now[i], matrix, b[t], least, width)
            now, then = then, now
            if t & 3 == 3:
                for i in range(left):
                    total = 0.0
                    for j in range(width):
                        total += now[i, j]
                    if left == 1:
                        shared[0] += np.log(total)
                    else:
                        scales[i] += np.log(total)
                    for j in range(width):
                        now[i, j] /= total
                if left > 1 and t & 15 == 15 and _agree(now):
                    left = 1
        for i in range(rows.shape[0]):
            for j in range(width):
                rows[i, j] = now[min(i, left - 1), j]
        return left == 1

    return Recursions(forward, backward, operator)


@compiled
def _agree(rows: Array) -> bool:
    """Whether all rows are the first one, to rounding; NaN is not."""
    for i in range(1, rows.shape[0]):
        for j in range(rows.shape[1]):
            if not abs(rows[i, j] - rows[0, j]) <= AGREEING * rows[0, j]:
                return False
    return True
