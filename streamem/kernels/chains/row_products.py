"""A row times a small square matrix with all sums in registers: what forward–backward recursions spend their time on.

Numba leaves such sums in memory, where every step of a recursion waits for the store before it. Written in LLVM's
vectors instead: 10 states 22 ns against 99 (or 60 with four rows of the matrix at a time), 32 states 78 against 174.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.machine.lanes import LANES
from streamem.machine.processor import SUMS_AT_ONCE
from streamem.machine.vectors import VECTOR, constant, data, load, number, spread, store
from streamem.machine.whole_numba import cgutils, intrinsic, ir, types

UNROLLED = 32
"""Largest width whose product is written out; above, a loop over the rows of the matrix."""

IN_REGISTERS = 2 * SUMS_AT_ONCE // 3
"""Vectors that a loop sums at the same time: eight, half of the registers of AVX2."""

_FUSED = ("contract",)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def advance(typing: Any, out: Any, row: Any, matrix: Any, factor: Any, least: Any, width: Any) -> Any:
    """out[j] = max(least, factor[j]·Σ_i row[i]·matrix[i, j]) for j < width, a literal multiple of `LANES`.

    All arrays are float64 in C order; `out` must not be `row`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, x, m, f = (data(context, builder, signature, arguments, i) for i in range(4))
        floor = spread(builder, arguments[4])
        for j, total in _products(builder, x, m, width.literal_value):
            value = builder.fmul(total, load(builder, f, j))
            low = builder.fcmp_ordered("<", value, floor)
            store(builder, builder.select(low, floor, value), to, j)
        return context.get_dummy_value()

    return types.none(out, row, matrix, factor, least, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def climb(typing: Any, out: Any, row: Any, matrix: Any, addend: Any, width: Any) -> Any:
    """out[j] = addend[j] + max_i (row[i] + matrix[i, j]) for j < width as above; there must be no NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, x, m, more = (data(context, builder, signature, arguments, i) for i in range(4))
        for j, highest in _products(builder, x, m, width.literal_value, _Maxima):
            store(builder, builder.fadd(highest, load(builder, more, j)), to, j)
        return context.get_dummy_value()

    return types.none(out, row, matrix, addend, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def retreat(typing: Any, out: Any, other: Any, row: Any, matrix: Any, factor: Any, width: Any) -> Any:
    """out[j] *= s and other[j] = factor[j]·s with s = Σ_i row[i]·matrix[i, j], for j < width as in `advance`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, beside, x, m, f = (data(context, builder, signature, arguments, i) for i in range(5))
        for j, total in _products(builder, x, m, width.literal_value):
            store(builder, builder.fmul(total, load(builder, to, j)), to, j)
            store(builder, builder.fmul(total, load(builder, f, j)), beside, j)
        return context.get_dummy_value()

    return types.none(out, other, row, matrix, factor, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_outer(typing: Any, sums: Any, left: Any, right: Any, last: Any, steps: Any, width: Any) -> Any:
    """sums[i, j] += Σ_m left[last − m, i]·right[last + 1 − m, j] over m < steps, a literal; i, j < width."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, x, y = (data(context, builder, signature, arguments, i) for i in range(3))
        n, size = width.literal_value, constant(width.literal_value)
        first = builder.mul(arguments[3], size)
        begins = [builder.sub(first, constant(m * n)) for m in range(steps.literal_value)]
        rights = [builder.add(begin, size) for begin in begins]
        spans = range(0, n, LANES)
        held = _rows(builder, y, rights, spans) if len(spans) * len(begins) <= SUMS_AT_ONCE else None
        with cgutils.for_range(builder, size) as loop:
            scalars = [spread(builder, number(builder, x, builder.add(b, loop.index))) for b in begins]
            row = builder.mul(loop.index, size)
            for j in spans:
                place = builder.add(row, constant(j))
                value = load(builder, total, place)
                vectors = [v[j // LANES] for v in held] if held else _column(builder, y, rights, j)
                for scalar, vector in zip(scalars, vectors, strict=True):
                    value = builder.fadd(value, builder.fmul(scalar, vector, flags=_FUSED), flags=_FUSED)
                store(builder, value, total, place)
        return context.get_dummy_value()

    return types.none(sums, left, right, last, steps, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def settle(typing: Any, row: Any, gamma: Any, seen: Any, taint: Any, least: Any, factor: Any, width: Any) -> Any:
    """seen += gamma and row = factor·gamma, but where row <= least: there taint += gamma and row = 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v, g, sums, lost = (data(context, builder, signature, arguments, i) for i in range(4))
        floor, scale, zero = spread(builder, arguments[4]), spread(builder, arguments[5]), ir.Constant(VECTOR, None)
        for j in range(0, width.literal_value, LANES):
            place = constant(j)
            value = load(builder, g, place)
            low = builder.fcmp_ordered("<=", load(builder, v, place), floor)
            kept = builder.select(low, zero, value)
            store(builder, builder.fadd(load(builder, lost, place), builder.select(low, value, zero)), lost, place)
            store(builder, builder.fadd(load(builder, sums, place), kept), sums, place)
            store(builder, builder.fmul(kept, scale), v, place)
        return context.get_dummy_value()

    return types.none(row, gamma, seen, taint, least, factor, width), generate


def _rows(builder: Any, pointer: Any, begins: list[Any], spans: range) -> list[list[Any]]:
    return [[load(builder, pointer, builder.add(begin, constant(j))) for j in spans] for begin in begins]


def _column(builder: Any, pointer: Any, begins: list[Any], j: int) -> list[Any]:
    return [load(builder, pointer, builder.add(begin, constant(j))) for begin in begins]


class _Sums:
    """Products and sums."""

    neutral = 0.0

    @staticmethod
    def joined(builder: Any, so_far: Any, scalar: Any, vector: Any) -> Any:
        term = builder.fmul(scalar, vector, flags=_FUSED)
        return term if so_far is None else builder.fadd(so_far, term, flags=_FUSED)

    @staticmethod
    def merged(builder: Any, one: Any, other: Any) -> Any:
        return builder.fadd(one, other)


class _Maxima:
    """Sums and maxima: the same of logarithms, for the best path."""

    neutral = -np.inf

    @staticmethod
    def joined(builder: Any, so_far: Any, scalar: Any, vector: Any) -> Any:
        term = builder.fadd(scalar, vector)
        return term if so_far is None else _Maxima.merged(builder, so_far, term)

    @staticmethod
    def merged(builder: Any, one: Any, other: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", other, one), other, one)


Algebra = type[_Sums] | type[_Maxima]


def _products(builder: Any, x: Any, m: Any, width: int, algebra: Algebra = _Sums) -> list[tuple[Any, Any]]:
    """(column, results of LANES columns from there) of a row times a matrix of that width."""
    if width <= UNROLLED:
        return _written_out(builder, x, m, width, algebra)
    totals = []
    for first in range(0, width, LANES * IN_REGISTERS):
        columns = range(first, min(first + LANES * IN_REGISTERS, width), LANES)
        totals += _looped(builder, x, m, width, columns, algebra)
    return totals


def _written_out(builder: Any, x: Any, m: Any, width: int, algebra: Algebra) -> list[tuple[Any, Any]]:
    vectors = width // LANES
    # Two results a vector where registers suffice: the next step waits for half as many operations.
    ways = 2 if 2 * vectors <= SUMS_AT_ONCE else 1
    sums: list[list[Any]] = [[None] * vectors for _ in range(ways)]
    for i in range(width):
        scalar = spread(builder, number(builder, x, constant(i)))
        for j in range(vectors):
            vector = load(builder, m, constant(i * width + j * LANES))
            sums[i % ways][j] = algebra.joined(builder, sums[i % ways][j], scalar, vector)
    totals = sums[0] if ways == 1 else [algebra.merged(builder, a, b) for a, b in zip(*sums, strict=True)]
    return [(constant(j * LANES), total) for j, total in enumerate(totals)]


def _looped(builder: Any, x: Any, m: Any, width: int, columns: range, algebra: Algebra) -> list[tuple[Any, Any]]:
    neutral = ir.Constant(VECTOR, [algebra.neutral] * LANES)
    kept = [cgutils.alloca_once(builder, VECTOR) for _ in columns]
    for place in kept:
        builder.store(neutral, place)
    with cgutils.for_range(builder, constant(width)) as loop:
        scalar = spread(builder, number(builder, x, loop.index))
        row = builder.mul(loop.index, constant(width))
        for column, place in zip(columns, kept, strict=True):
            vector = load(builder, m, builder.add(row, constant(column)))
            builder.store(algebra.joined(builder, builder.load(place, typ=VECTOR), scalar, vector), place)
    return [(constant(column), builder.load(place, typ=VECTOR)) for column, place in zip(columns, kept, strict=True)]
