"""Observations of a Gaussian chain, reduced to what they tell of the state: z = T x + ε, ε ~ N(0, I).

y = C x + d + v, v ~ N(0, R). With R = L Lᵀ and L⁻¹C = U T, the columns of U orthonormal, z = UᵀL⁻¹(y − d) tells all of
x that y does, and has at most as many numbers as x (Jungbacker & Koopman 2015, §2.3). Rows that lack the same values
are of one kind, which has a T of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.linalg.blas import dtrsm

from streamem.core.arrays import Params

Array = NDArray[Any]

LOG_2_PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Gap:
    """Rows that lack some values: given the state and the others, y = α + D x + ε with ε ~ N(0, noise).

    Attributes
    ----------
    rows : which
    by_state : (d, k) D, zeros where values were observed
    noise : (d, d), or its diagonal
    """

    rows: Array
    by_state: Array
    noise: Array


@dataclass(frozen=True, eq=False)
class Observations:
    """All rows of a chunk.

    Attributes
    ----------
    kinds : (n,) int64, of each row
    rows : of each kind
    seen : (p, r, k) T of each kind, filled up with zeros
    told : (p, k, k) TᵀT
    z : (n, r)
    h : (n, k) Tᵀz
    rest : (n,) log-density of what z leaves out, in nats, constants of all included
    values : (n, d) y about the anchor; α in its place where values lack
    gaps : by kind, of rows that lack some values, but not all
    blank : kind of rows without any value, or −1
    """

    kinds: Array
    rows: list[Any]
    seen: Array
    told: Array
    z: Array
    h: Array
    rest: Array
    values: Array
    gaps: dict[int, Gap]
    blank: int

    def far(self, means: Array) -> Array:
        """(n, r) z − T x at states (n, k)."""
        found = self.z.copy()
        for rows, seen in zip(self.rows, self.seen, strict=True):
            found[rows] -= means[rows] @ seen.T
        return found

    def expected(self, means: Array) -> Array:
        """(n, d) values, about the anchor, with their expectations in place of those that lack, given states (n, k)."""
        if not self.gaps:
            return self.values
        filled = self.values.copy()
        for gap in self.gaps.values():
            filled[gap.rows] += means[gap.rows] @ gap.by_state.T
        return filled


def observations(components: Params, anchor: Array, x: Array) -> Observations:
    """The rows x (n, d) under the parameters of a chain."""
    c = np.asarray(components.observation_matrix)
    (d, k), n = c.shape, len(x)
    values = np.subtract(x, anchor, dtype=np.float64)
    kinds, patterns = kinds_of(np.isnan(values))
    rows_of = _rows_of(kinds, len(patterns))
    r = min(d, k)
    seen, z, h = np.zeros((len(patterns), r, k)), np.zeros((n, r)), np.zeros((n, k))
    rest, gaps, blank = np.zeros(n), {}, -1
    for kind, lacks in enumerate(patterns):
        if lacks.all():
            blank = kind
            values[rows_of[kind]] = 0.0
            continue
        rows = rows_of[kind]
        own = _reduced(components, ~lacks, values[rows].compress(~lacks, axis=1) if lacks.any() else values[rows])
        seen[kind, : len(own.t)] = own.t
        z[rows, : len(own.t)], rest[rows] = own.z, own.rest
        h[rows] = own.z @ own.t
        if lacks.any():
            filled, gaps[kind] = _filled(components, lacks, rows, own.residuals)
            values[np.ix_(np.arange(n)[rows], lacks)] = filled
    told = np.matmul(np.swapaxes(seen, 1, 2), seen)
    return Observations(kinds, rows_of, seen, told, z, h, rest, values, gaps, blank)


def kinds_of(lacks: Array) -> tuple[Array, Array]:
    """The kind of each row (n,) int64, and which values rows of each kind lack (p, d)."""
    n, d = lacks.shape
    if not lacks.any():
        return np.zeros(n, dtype=np.int64), np.zeros((1, d), dtype=np.bool_)
    packed = np.packbits(lacks, axis=1)
    if packed.shape[1] == 1:  # a table of what is there instead of sorting
        codes, seen = packed[:, 0], np.zeros(256, dtype=np.bool_)
        seen[codes] = True
        found = np.flatnonzero(seen).astype(np.uint8)
        return (np.cumsum(seen) - 1)[codes], np.unpackbits(found[:, None], axis=1)[:, :d].astype(np.bool_)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, firsts, kinds = np.unique(keys, return_index=True, return_inverse=True)
    return kinds.astype(np.int64).ravel(), lacks[firsts]


def _rows_of(kinds: Array, count: int) -> list[Any]:
    """The rows of each kind, in order."""
    if count == 1:
        return [slice(None)]
    small = kinds.astype(np.uint16) if count <= 2**16 else kinds  # which NumPy sorts by counting
    order = np.argsort(small, kind="stable")
    return np.split(order, np.cumsum(np.bincount(kinds, minlength=count))[:-1])


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Rows of one kind: T (r, k), z (n, r), the log-density of the rest (n,), with gaps R⁻¹(y − d) (n, observed)."""

    t: Array
    z: Array
    rest: Array
    residuals: Array


def _reduced(components: Params, has: Array, y: Array) -> _Reduced:
    c, noise = np.asarray(components.observation_matrix)[has], np.asarray(components.observation_covariance)
    about = y - components.observation_offset[has]
    if noise.ndim == 1:
        size = np.sqrt(noise[has])
        scaled, e = c / size[:, None], about / size
        residuals, log_det = e if has.all() else e / size, 2.0 * np.log(size).sum()
    else:
        low = cholesky(noise[np.ix_(has, has)], lower=True)
        scaled, e = dtrsm(1.0, low, c, lower=1), dtrsm(1.0, low, about.T, lower=1).T
        residuals = e if has.all() else dtrsm(1.0, low, e.T, lower=1, trans_a=1).T
        log_det = 2.0 * np.log(np.diagonal(low)).sum()
    constant = -0.5 * (len(c) * LOG_2_PI + log_det)
    if c.shape[0] <= c.shape[1]:
        return _Reduced(scaled, e, np.full(len(y), constant), residuals)
    u, t = np.linalg.qr(scaled)
    z = e @ u
    e -= z @ u.T
    return _Reduced(t, z, constant - 0.5 * np.einsum("nj,nj->n", e, e), residuals)


def _filled(components: Params, lacks: Array, rows: Array, residuals: Array) -> tuple[Array, Gap]:
    """α of what rows lack, and what it depends on besides."""
    c, noise = np.asarray(components.observation_matrix), np.asarray(components.observation_covariance)
    offset, by_state = np.asarray(components.observation_offset)[lacks], np.zeros_like(c)
    if noise.ndim == 1:
        by_state[lacks] = c[lacks]
        return np.tile(offset, (len(residuals), 1)), Gap(rows, by_state, np.where(lacks, noise, 0.0))
    across, own = noise[np.ix_(lacks, ~lacks)], noise[np.ix_(~lacks, ~lacks)]
    slopes = np.linalg.solve(own, across.T).T
    by_state[lacks] = c[lacks] - slopes @ c[~lacks]
    left = np.zeros_like(noise)
    left[np.ix_(lacks, lacks)] = noise[np.ix_(lacks, lacks)] - slopes @ across.T
    return offset + residuals @ across.T, Gap(rows, by_state, (left + left.T) / 2.0)
