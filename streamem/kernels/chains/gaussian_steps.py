"""Steps of a Gaussian chain's recursions for any number of dimensions, and for few, in registers. Imports Numba.

Each function here is called by compiled recursions with `width`, the number of dimensions, which is a constant there
up to `MOST`, and 0 above: then loops go over the sizes that arrays have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.small_matrices import (
    added_small,
    carried_small,
    moved_small,
    predicted_small,
    through_small,
    told_small,
    updated_small,
)
from streamem.machine.compiled import OPTIONS, compiled_inside
from streamem.machine.whole_numba import overload

Array = NDArray[Any]

MOST = 8
"""Dimensions of which matrices are written out: beyond, registers would not hold them."""


def through(
    now: Array, told: Array, a: Array, g: Array, turned: Array, slot: Array, pivots: Array, new: Array, width: int
) -> None:
    """Information through a transition: fills new (k, k), its slot (3, k, k), and pivots (k,) of M = I + GᵀΛG.

    Parameters
    ----------
    now, told : Λ is their sum, which the state after the transition tells of itself
    a, g, turned : A, G, Gᵀ
    """


def told_back(slot: Array, told: Array, driven: Array, back: Array, width: int) -> None:
    """driven = M⁻¹Gᵀη and back = Fᵀη, where η is told (k,)."""


def moved_on(
    slot: Array, driven: Array, a_turned: Array, turned: Array, before: Array, after: Array, width: int
) -> float:
    """after = A x + G u with x = before and u = driven − M⁻¹GᵀΛA x; ‖u‖². The matrices are Aᵀ and Gᵀ."""
    raise TypeError("moved_on runs in compiled functions only")


def carried(slot: Array, g: Array, now: Array, across: Array, new: Array, width: int) -> None:
    """A covariance through a transition: fills across = F P and new = F P Fᵀ + Σ."""


def added(weight: float, matrix: Array, sums: Array, width: int) -> None:
    """sums (k, k) += weight · matrix."""


def added_all(
    weight: float, before: Array, across: Array, after: Array, by_kind: Array, moved: Array, width: int
) -> None:
    """What a transition adds: its covariances (k, k) to moved (3, k, k), and the one after it to by_kind, weighted."""


def predicted(p: Array, a: Array, turned: Array, noise: Array, width: int) -> None:
    """P ← A P Aᵀ + Q; turned is Aᵀ."""


def updated(
    p: Array, own: Array, turned: Array, low: Array, pivots: Array, gain: Array, left: Array, width: int
) -> None:
    """P ← (I − K T) P (I − K T)ᵀ + K Kᵀ, T of r rows in own, Tᵀ in turned; with S = T P Tᵀ + I = L D Lᵀ, K = P TᵀS⁻¹.

    Fills gain (r, k) with Kᵀ, left (k, k) with (I − K T)ᵀ, low with L below the diagonal, and pivots (r,) with D.
    """


def _of_width(width: Any, small: Callable[..., Any], loops: Callable[..., Any]) -> Callable[..., Any]:
    return small if getattr(width, "literal_value", 0) else loops


@overload(through, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _through(now: Any, told: Any, a: Any, g: Any, turned: Any, slot: Any, pivots: Any, new: Any, width: Any) -> Any:
    def small(now: Any, told: Any, a: Any, g: Any, turned: Any, slot: Any, pivots: Any, new: Any, width: Any) -> None:
        through_small(now, told, a, g, turned, slot, pivots, new, width)

    def loops(now: Any, told: Any, a: Any, g: Any, turned: Any, slot: Any, pivots: Any, new: Any, width: Any) -> None:
        through_loops(now, told, a, g, turned, slot, pivots, new)

    return _of_width(width, small, loops)


@overload(told_back, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _told_back(slot: Any, told: Any, driven: Any, back: Any, width: Any) -> Any:
    def small(slot: Any, told: Any, driven: Any, back: Any, width: Any) -> None:
        told_small(slot, told, driven, back, width)

    def loops(slot: Any, told: Any, driven: Any, back: Any, width: Any) -> None:
        for i in range(told.shape[0]):
            here, before = 0.0, 0.0
            for j in range(told.shape[0]):
                here += slot[0, i, j] * told[j]
                before += slot[2, j, i] * told[j]
            driven[i], back[i] = here, before

    return _of_width(width, small, loops)


@overload(moved_on, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _moved_on(slot: Any, driven: Any, a_turned: Any, turned: Any, before: Any, after: Any, width: Any) -> Any:
    def small(slot: Any, driven: Any, a_turned: Any, turned: Any, before: Any, after: Any, width: Any) -> Any:
        return moved_small(slot, driven, a_turned, turned, before, after, width)

    def loops(slot: Any, driven: Any, a_turned: Any, turned: Any, before: Any, after: Any, width: Any) -> Any:
        size = 0.0
        for i in range(before.shape[0]):
            after[i] = 0.0
        for i in range(before.shape[0]):
            u = driven[i]
            for j in range(before.shape[0]):
                u -= slot[1, i, j] * before[j]
            size += u * u
            for j in range(before.shape[0]):
                after[j] += a_turned[i, j] * before[i] + turned[i, j] * u
        return size

    return _of_width(width, small, loops)


@overload(carried, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _carried(slot: Any, g: Any, now: Any, across: Any, new: Any, width: Any) -> Any:
    def small(slot: Any, g: Any, now: Any, across: Any, new: Any, width: Any) -> None:
        carried_small(slot, g, now, across, new, width)

    def loops(slot: Any, g: Any, now: Any, across: Any, new: Any, width: Any) -> None:
        spread = np.empty(now.shape)
        product(g, slot[0], spread)
        product(slot[2], now, across)
        product_turned(across, slot[2], new)
        _symmetric_with(new, spread)

    return _of_width(width, small, loops)


@overload(added, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _added(weight: Any, matrix: Any, sums: Any, width: Any) -> Any:
    def small(weight: Any, matrix: Any, sums: Any, width: Any) -> None:
        added_small(weight, matrix, sums, width)

    def loops(weight: Any, matrix: Any, sums: Any, width: Any) -> None:
        for i in range(matrix.shape[0]):
            for j in range(matrix.shape[1]):
                sums[i, j] += weight * matrix[i, j]

    return _of_width(width, small, loops)


@overload(added_all, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _added_all(weight: Any, before: Any, across: Any, after: Any, by_kind: Any, moved: Any, width: Any) -> Any:
    def add(weight: Any, before: Any, across: Any, after: Any, by_kind: Any, moved: Any, width: Any) -> None:
        added(weight, before, moved[0], width)
        added(weight, across, moved[1], width)
        added(weight, after, moved[2], width)
        added(weight, after, by_kind, width)

    return add


@overload(predicted, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _predicted(p: Any, a: Any, turned: Any, noise: Any, width: Any) -> Any:
    def small(p: Any, a: Any, turned: Any, noise: Any, width: Any) -> None:
        predicted_small(p, a, turned, noise, width)

    def loops(p: Any, a: Any, turned: Any, noise: Any, width: Any) -> None:
        work = np.empty(p.shape)
        product(a, p, work)
        product(work, turned, p)
        _symmetric_with(p, noise)

    return _of_width(width, small, loops)


@overload(updated, jit_options=OPTIONS, prefer_literal=True)  # type: ignore[untyped-decorator]
def _updated(p: Any, own: Any, turned: Any, low: Any, pivots: Any, gain: Any, left: Any, width: Any) -> Any:
    def small(p: Any, own: Any, turned: Any, low: Any, pivots: Any, gain: Any, left: Any, width: Any) -> None:
        updated_small(p, own, turned, low, pivots, gain, left, width)

    def loops(p: Any, own: Any, turned: Any, low: Any, pivots: Any, gain: Any, left: Any, width: Any) -> None:
        updated_loops(p, own, turned, low, pivots, gain, left)

    return _of_width(width, small, loops)


@compiled_inside
def through_loops(
    now: Array, told: Array, a: Array, g: Array, turned: Array, slot: Array, pivots: Array, new: Array
) -> None:
    """See `through`."""
    k = a.shape[0]
    lam, half, low, y = np.empty((k, k)), np.empty((k, k)), np.empty((k, k)), np.empty((k, k))
    for i in range(k):
        for j in range(k):
            lam[i, j] = now[i, j] + told[i, j]
    product(turned, lam, half)
    product(half, g, low)
    add_one(low, 1.0)
    factorized(low, pivots)
    solved(low, pivots, turned, slot[0])  # M⁻¹Gᵀ
    solved(low, pivots, half, y)  # M⁻¹GᵀΛ
    product(y, a, slot[1])
    product(g, y, half)
    for i in range(k):
        for j in range(k):
            half[i, j] = (1.0 if i == j else 0.0) - half[i, j]  # (I + QΛ)⁻¹
    product(half, a, slot[2])
    # AᵀΛ(I + QΛ)⁻¹A = FᵀΛF + (M⁻¹GᵀΛA)ᵀ(M⁻¹GᵀΛA): nothing is subtracted.
    product(lam, slot[2], half)
    turned_product(slot[2], half, new)
    turned_product(slot[1], slot[1], half)
    _symmetric_with(new, half)


@compiled_inside
def updated_loops(p: Array, own: Array, turned: Array, low: Array, pivots: Array, gain: Array, left: Array) -> None:
    """See `updated`."""
    k, r = turned.shape
    shared, work = np.empty((r, k)), np.empty((k, k))
    product(own, p, shared)
    product(shared, turned, low)
    add_one(low, 1.0)
    factorized(low, pivots)
    solved(low, pivots, shared, gain)
    product(turned, gain, left)
    for i in range(k):
        for j in range(k):
            left[i, j] = (1.0 if i == j else 0.0) - left[i, j]
    product(p, left, work)
    turned_product(left, work, p)
    turned_product(gain, gain, work)
    _symmetric_with(p, work)


@compiled_inside
def product(left: Array, right: Array, out: Array) -> None:
    """out = left · right."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = 0.0
        for o in range(right.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] += left[i, o] * right[o, j]


@compiled_inside
def product_turned(left: Array, right: Array, out: Array) -> None:
    """out = left · rightᵀ."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for o in range(right.shape[1]):
                total += left[i, o] * right[j, o]
            out[i, j] = total


@compiled_inside
def turned_product(left: Array, right: Array, out: Array) -> None:
    """out = leftᵀ · right."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = 0.0
        for o in range(right.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] += left[o, i] * right[o, j]


@compiled_inside
def add_one(matrix: Array, one: float) -> None:
    """matrix + one · I."""
    for i in range(matrix.shape[0]):
        matrix[i, i] += one


@compiled_inside
def _symmetric_with(matrix: Array, more: Array) -> None:
    """matrix + more, of which the lower triangles count."""
    for i in range(matrix.shape[0]):
        for j in range(i + 1):
            matrix[i, j] = matrix[j, i] = matrix[i, j] + more[i, j]


@compiled_inside
def factorized(matrix: Array, pivots: Array) -> None:
    """L D Lᵀ of a matrix, in its lower triangle: what L has below its diagonal, and D apart."""
    for j in range(matrix.shape[0]):
        pivot = matrix[j, j]
        for o in range(j):
            pivot -= matrix[j, o] * matrix[j, o] * pivots[o]
        pivots[j] = pivot
        for i in range(j + 1, matrix.shape[0]):
            value = matrix[i, j]
            for o in range(j):
                value -= matrix[i, o] * matrix[j, o] * pivots[o]
            matrix[i, j] = value / pivot


@compiled_inside
def solved(low: Array, pivots: Array, right: Array, out: Array) -> None:
    """out = (L D Lᵀ)⁻¹ right."""
    r, k = out.shape
    for i in range(r):
        for c in range(k):
            out[i, c] = right[i, c]
        for o in range(i):
            for c in range(k):
                out[i, c] -= low[i, o] * out[o, c]
    for i in range(r - 1, -1, -1):
        for c in range(k):
            out[i, c] /= pivots[i]
        for o in range(i + 1, r):
            for c in range(k):
                out[i, c] -= low[o, i] * out[o, c]


@compiled_inside
def log_of_product(pivots: Array) -> float:
    """Σ log of positive numbers: NaN where one is not."""
    total, size = 0.0, 1.0
    for i in range(pivots.shape[0]):
        if not pivots[i] > 0.0:
            return np.nan
        if pivots[i] > 1e100 or pivots[i] < 1e-100:
            total += np.log(pivots[i])
        else:
            size *= pivots[i]
        if size > 1e100 or size < 1e-100:
            total += np.log(size)
            size = 1.0
    return total + np.log(size)
