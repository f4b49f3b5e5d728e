"""Steps of a Gaussian chain whose matrices lie in registers: their size is known when they are compiled. Imports Numba.

A matrix is a list of its rows, each a vector of LLVM. From Numba's loops over sizes that are known at run time a
step of four dimensions takes ten times as long: each sum waits for the one before it, and for memory.
"""

from __future__ import annotations

from typing import Any

from streamem.machine.vectors import FLAGS, constant, data, load, multiply_add, spread, store
from streamem.machine.whole_numba import intrinsic, ir, types

Rows = list[Any]
NUMBER, PLACE = ir.DoubleType(), ir.IntType(32)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def through_small(
    typing: Any,
    now: Any,
    told: Any,
    a: Any,
    g: Any,
    turned: Any,
    slot: Any,
    pivots: Any,
    new: Any,
    width: Any,
) -> Any:
    """See `gaussian_steps.through`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        places = [data(context, builder, signature, arguments, i) for i in range(8)]
        lam, by, move, root, back = (_rows(builder, place, k) for place in places[:5])
        lam = [builder.fadd(one, other) for one, other in zip(lam, by, strict=True)]
        half = _product(builder, back, lam)  # GᵀΛ
        factor = _Factor(builder, _plus_one(builder, _product(builder, half, root)))
        factor.keep_pivots(places[6])
        gain, y = factor.solved(back), factor.solved(half)
        left = _one_less(builder, _product(builder, root, y))  # (I + QΛ)⁻¹
        driven, forward = _product(builder, y, move), _product(builder, left, move)
        for i, matrix in enumerate((gain, driven, forward)):
            _keep(builder, matrix, places[5], i * k)
        # AᵀΛ(I + QΛ)⁻¹A = FᵀΛF + (M⁻¹GᵀΛA)ᵀ(M⁻¹GᵀΛA): nothing is subtracted.
        square = _crossed(builder, driven, driven)
        found = _crossed(builder, forward, _product(builder, lam, forward), square)
        _keep(builder, _mirrored(builder, found), places[7])
        return context.get_dummy_value()

    return types.none(now, told, a, g, turned, slot, pivots, new, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def told_small(typing: Any, slot: Any, told: Any, driven: Any, back: Any, width: Any) -> Any:
    """See `gaussian_steps.told_back`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        own, eta, here, before = (data(context, builder, signature, arguments, i) for i in range(4))
        vector = load(builder, eta, constant(0), _vector(k))
        store(builder, _applied(builder, _rows(builder, own, k), vector), here, constant(0))
        forward = _rows(builder, own, k, 2 * k)
        scalars = [_at(builder, vector, j) for j in range(k)]
        store(builder, _combined(builder, scalars, forward, None), before, constant(0))
        return context.get_dummy_value()

    return types.none(slot, told, driven, back, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def moved_small(
    typing: Any, slot: Any, driven: Any, a_turned: Any, turned: Any, before: Any, after: Any, width: Any
) -> Any:
    """See `gaussian_steps.moved_on`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        places = [data(context, builder, signature, arguments, i) for i in range(6)]
        x, q = (load(builder, places[i], constant(0), _vector(k)) for i in (4, 1))
        u = builder.fsub(q, _applied(builder, _rows(builder, places[0], k, k), x))
        known, pushed = ([_at(builder, vector, j) for j in range(k)] for vector in (x, u))
        found = _combined(builder, known, _rows(builder, places[2], k), None)
        store(builder, _combined(builder, pushed, _rows(builder, places[3], k), found), places[5], constant(0))
        size = builder.fmul(pushed[0], pushed[0])
        for each in pushed[1:]:
            size = multiply_add(builder, each, each, size)
        return size

    return types.float64(slot, driven, a_turned, turned, before, after, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def carried_small(typing: Any, slot: Any, g: Any, now: Any, across: Any, new: Any, width: Any) -> Any:
    """See `gaussian_steps.carried`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        transition, root, before, along, after = (data(context, builder, signature, arguments, i) for i in range(5))
        forward = _rows(builder, transition, k, 2 * k)
        spread_ = _product(builder, _rows(builder, root, k), _rows(builder, transition, k))  # G M⁻¹Gᵀ
        carried = _product(builder, forward, _rows(builder, before, k))
        _keep(builder, carried, along)
        found = _product(builder, carried, _turned(builder, forward), spread_)
        _keep(builder, _mirrored(builder, found), after)
        return context.get_dummy_value()

    return types.none(slot, g, now, across, new, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def added_small(typing: Any, weight: Any, matrix: Any, sums: Any, width: Any) -> Any:
    """sums (k, k) += weight · matrix; both are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        own, total = data(context, builder, signature, arguments, 1), data(context, builder, signature, arguments, 2)
        scale = spread(builder, arguments[0], _vector(k))
        pairs = zip(_rows(builder, own, k), _rows(builder, total, k), strict=True)
        _keep(builder, [multiply_add(builder, scale, row, sum_) for row, sum_ in pairs], total)
        return context.get_dummy_value()

    return types.none(weight, matrix, sums, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def predicted_small(typing: Any, p: Any, a: Any, turned: Any, noise: Any, width: Any) -> Any:
    """See `gaussian_steps.predicted`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [data(context, builder, signature, arguments, i) for i in range(4)]
        spread_, move, back, own = (_rows(builder, place, width.literal_value) for place in places)
        found = _product(builder, _product(builder, move, spread_), back, own)
        _keep(builder, _mirrored(builder, found), places[0])
        return context.get_dummy_value()

    return types.none(p, a, turned, noise, width), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def updated_small(
    typing: Any,
    p: Any,
    own: Any,
    turned: Any,
    low: Any,
    pivots: Any,
    gain: Any,
    left: Any,
    width: Any,
) -> Any:
    """See `gaussian_steps.updated`; all arrays are float64 in C order, `width` is a literal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = width.literal_value
        places = [data(context, builder, signature, arguments, i) for i in range(7)]
        spread_, seen, back = (_rows(builder, place, k) for place in places[:3])
        shared = _product(builder, seen, spread_)  # T P
        factor = _Factor(builder, _plus_one(builder, _product(builder, shared, back)))
        factor.keep_pivots(places[4])
        factor.keep(places[3])
        gains = factor.solved(shared)
        rest = _one_less(builder, _product(builder, back, gains))  # (I − K T)ᵀ
        _keep(builder, gains, places[5])
        _keep(builder, rest, places[6])
        # (I − K T) P (I − K T)ᵀ + K Kᵀ (Joseph): a sum of squares.
        square = _crossed(builder, gains, gains)
        found = _crossed(builder, rest, _product(builder, spread_, rest), square)
        _keep(builder, _mirrored(builder, found), places[0])
        return context.get_dummy_value()

    return types.none(p, own, turned, low, pivots, gain, left, width), generate


class _Factor:
    """M = L D Lᵀ of a positive definite matrix, L with ones on its diagonal."""

    def __init__(self, builder: Any, matrix: Rows) -> None:
        self._builder, rows, k = builder, list(matrix), len(matrix)
        self.pivots: Rows = []
        self._shares: Rows = []  # 1 ÷ pivot
        self._low: list[Rows] = [[] for _ in range(k)]
        for j in range(k):
            self.pivots.append(_at(builder, rows[j], j))
            self._shares.append(builder.fdiv(ir.Constant(NUMBER, 1.0), self.pivots[j]))
            for i in range(j + 1, k):
                self._low[i].append(builder.fmul(_at(builder, rows[i], j), self._shares[j]))
                rows[i] = _less(builder, self._low[i][j], rows[j], rows[i])

    def solved(self, right: Rows) -> Rows:
        """M⁻¹ right."""
        builder, found = self._builder, list(right)
        for i in range(len(found)):
            for o in range(i):
                found[i] = _less(builder, self._low[i][o], found[o], found[i])
        found = [builder.fmul(spread(builder, s, v.type), v) for s, v in zip(self._shares, found, strict=True)]
        for i in reversed(range(len(found))):
            for o in range(i + 1, len(found)):
                found[i] = _less(builder, self._low[o][i], found[o], found[i])
        return found

    def keep_pivots(self, place: Any) -> None:
        """Write D."""
        for j, pivot in enumerate(self.pivots):
            store(self._builder, pivot, place, constant(j))

    def keep(self, place: Any) -> None:
        """Write what L has below its diagonal."""
        for i, row in enumerate(self._low):
            for j, value in enumerate(row):
                store(self._builder, value, place, constant(i * len(self._low) + j))


def _vector(k: int) -> Any:
    return ir.VectorType(NUMBER, k)


def _rows(builder: Any, place: Any, k: int, first: int = 0) -> Rows:
    return [load(builder, place, constant((first + i) * k), _vector(k)) for i in range(k)]


def _keep(builder: Any, matrix: Rows, place: Any, first: int = 0) -> None:
    for i, row in enumerate(matrix):
        store(builder, row, place, constant((first + i) * len(matrix)))


def _at(builder: Any, row: Any, j: int) -> Any:
    return builder.extract_element(row, ir.Constant(PLACE, j))


def _less(builder: Any, scalar: Any, row: Any, start: Any) -> Any:
    """start − scalar · row."""
    return builder.fsub(start, builder.fmul(spread(builder, scalar, row.type), row, flags=FLAGS), flags=FLAGS)


def _product(builder: Any, left: Rows, right: Rows, start: Rows | None = None) -> Rows:
    """start + left · right."""
    begun = start or [None] * len(left)
    return [
        _combined(builder, [_at(builder, row, o) for o in range(len(right))], right, own)
        for row, own in zip(left, begun, strict=True)
    ]


def _crossed(builder: Any, left: Rows, right: Rows, start: Rows | None = None) -> Rows:
    """start + leftᵀ · right."""
    begun = start or [None] * len(left)
    return [_combined(builder, [_at(builder, row, i) for row in left], right, own) for i, own in enumerate(begun)]


def _combined(builder: Any, scalars: Rows, rows: Rows, start: Any) -> Any:
    """start + Σ scalar · row."""
    total = start
    for scalar, row in zip(scalars, rows, strict=True):
        wide = spread(builder, scalar, row.type)
        total = builder.fmul(wide, row) if total is None else multiply_add(builder, wide, row, total)
    return total


def _applied(builder: Any, matrix: Rows, vector: Any) -> Any:
    """matrix · vector."""
    total = None
    for row in _turned(builder, [builder.fmul(row, vector) for row in matrix]):
        total = row if total is None else builder.fadd(total, row)
    return total


def _plus_one(builder: Any, matrix: Rows) -> Rows:
    return [builder.fadd(row, _unit(len(matrix), i)) for i, row in enumerate(matrix)]


def _one_less(builder: Any, matrix: Rows) -> Rows:
    """I − matrix."""
    return [builder.fsub(_unit(len(matrix), i), row) for i, row in enumerate(matrix)]


def _unit(k: int, i: int) -> Any:
    return ir.Constant(_vector(k), [1.0 if j == i else 0.0 for j in range(k)])


def _turned(builder: Any, matrix: Rows) -> Rows:
    """The transposed matrix."""
    found: Rows = [ir.Constant(row.type, ir.Undefined) for row in matrix]
    for i, row in enumerate(matrix):
        for j in range(len(matrix)):
            found[j] = builder.insert_element(found[j], _at(builder, row, j), ir.Constant(PLACE, i))
    return found


def _mirrored(builder: Any, matrix: Rows) -> Rows:
    """The matrix with what lies below its diagonal above it, too."""
    found = list(matrix)
    for i in range(len(matrix)):
        for j in range(i):
            found[j] = builder.insert_element(found[j], _at(builder, matrix[i], j), ir.Constant(PLACE, i))
    return found
