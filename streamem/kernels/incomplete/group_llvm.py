"""The machine code of rows that lack values: sums over features of vectors with a component a lane. Imports Numba.

What a row lacks differs from row to row, and is the same for all components: so the components are the lanes. Arrays
are float64 in C order with `GROUP` numbers on their last axis, and indices count such vectors.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.incomplete.groups import GROUP
from streamem.machine.vectors import FLAGS, INDEX, constant, data, load, multiply_add, number, spread, store
from streamem.machine.whole_numba import cgutils, intrinsic, ir, types

LANES_OF_GROUP = ir.VectorType(ir.DoubleType(), GROUP)

ZERO = ir.Constant(LANES_OF_GROUP, [0.0] * GROUP)

AT_ONCE = 4
"""Sums that do not wait for each other."""

WHOLE = types.int64


@intrinsic  # type: ignore[untyped-decorator]
def add_multiple(typing: Any, y: Any, iy: Any, factor: Any, i: Any, x: Any, ix: Any, count: Any) -> Any:
    """y[iy + j] += factor[i]·x[ix + j] for j < count."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        scale = code.load(2, arguments[3])

        def body(j: Any) -> None:
            place = builder.add(arguments[1], j)
            total = multiply_add(builder, scale, code.load(4, builder.add(arguments[5], j)), code.load(0, place))
            code.store(total, 0, place)

        code.each(arguments[6], body)
        return context.get_dummy_value()

    return types.none(y, WHOLE, factor, WHOLE, x, WHOLE, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def take_multiple(typing: Any, y: Any, iy: Any, factor: Any, i: Any, x: Any, ix: Any, count: Any) -> Any:
    """y[iy + j] −= factor[i]·x[ix + j] for j < count."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        scale = code.load(2, arguments[3])

        def body(j: Any) -> None:
            place = builder.add(arguments[1], j)
            product = builder.fmul(scale, code.load(4, builder.add(arguments[5], j)), flags=FLAGS)
            code.store(builder.fsub(code.load(0, place), product, flags=FLAGS), 0, place)

        code.each(arguments[6], body)
        return context.get_dummy_value()

    return types.none(y, WHOLE, factor, WHOLE, x, WHOLE, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def dot(typing: Any, out: Any, i: Any, x: Any, ix: Any, y: Any, iy: Any, count: Any) -> Any:
    """out[i] = Σ_j x[ix + j]·y[iy + j] for j < count."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)

        def term(j: Any, total: Any) -> Any:
            one, other = code.load(2, builder.add(arguments[3], j)), code.load(4, builder.add(arguments[5], j))
            return multiply_add(builder, one, other, total)

        code.store(code.total(arguments[6], term), 0, arguments[1])
        return context.get_dummy_value()

    return types.none(out, WHOLE, x, WHOLE, y, WHOLE, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typing: Any, y: Any, iy: Any, factor: Any, i: Any, x: Any, ix: Any, count: Any) -> Any:
    """y[iy + j] = factor[i]·x[ix + j] for j < count."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        scale = code.load(2, arguments[3])

        def body(j: Any) -> None:
            product = builder.fmul(scale, code.load(4, builder.add(arguments[5], j)), flags=FLAGS)
            code.store(product, 0, builder.add(arguments[1], j))

        code.each(arguments[6], body)
        return context.get_dummy_value()

    return types.none(y, WHOLE, factor, WHOLE, x, WHOLE, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def root_and_inverse(typing: Any, root: Any, i: Any, inverse: Any, j: Any, squares: Any, at: Any) -> Any:
    """root[i] = √squares[at] and inverse[j] = 1/root[i]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        kind = ir.FunctionType(LANES_OF_GROUP, [LANES_OF_GROUP])
        square_root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{GROUP}f64")
        value = builder.call(square_root, [code.load(4, arguments[5])])
        code.store(value, 0, arguments[1])
        code.store(builder.fdiv(ir.Constant(LANES_OF_GROUP, [1.0] * GROUP), value), 2, arguments[3])
        return context.get_dummy_value()

    return types.none(root, WHOLE, inverse, WHOLE, squares, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_chosen(typing: Any, out: Any, i: Any, matrix: Any, row: Any, z: Any, chosen: Any, count: Any) -> Any:
    """out[i + j] = Σ_c matrix[row + chosen[c]·d + j]·z[chosen[c]] for c < count and j < AT_ONCE; d = len(z).

    `chosen` are int64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        d, indices = code.length(4), data(context, builder, signature, arguments, 5)

        def body(c: Any, totals: list[Any]) -> list[Any]:
            which = number(builder, indices, c)
            factor = code.load(4, which)
            begin = builder.add(arguments[3], builder.mul(which, d))
            return [
                multiply_add(builder, code.load(2, builder.add(begin, constant(j))), factor, total)
                for j, total in enumerate(totals)
            ]

        for j, total in enumerate(code.carried(arguments[6], [ZERO] * AT_ONCE, body)):
            code.store(total, 0, builder.add(arguments[1], constant(j)))
        return context.get_dummy_value()

    return types.none(out, WHOLE, matrix, WHOLE, z, chosen, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_multiples(typing: Any, out: Any, i: Any, matrix: Any, at: Any, numbers: Any, count: Any) -> Any:
    """out[i] = Σ_j numbers[j]·matrix[at + j] for j < count; numbers are (d,) float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)

        def term(j: Any, total: Any) -> Any:
            factor = spread(builder, number(builder, code.pointers[4], j), LANES_OF_GROUP)
            return multiply_add(builder, factor, code.load(2, builder.add(arguments[3], j)), total)

        code.store(code.total(arguments[5], term), 0, arguments[1])
        return context.get_dummy_value()

    return types.none(out, WHOLE, matrix, WHOLE, numbers, WHOLE), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_multiples(typing: Any, y: Any, iy: Any, factor: Any, i: Any, numbers: Any, count: Any) -> Any:
    """y[iy + j] += factor[i]·numbers[j] for j < count; numbers are (d,) float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        scale = code.load(2, arguments[3])

        def body(j: Any) -> None:
            place = builder.add(arguments[1], j)
            factor = spread(builder, number(builder, code.pointers[4], j), LANES_OF_GROUP)
            code.store(multiply_add(builder, scale, factor, code.load(0, place)), 0, place)

        code.each(arguments[5], body)
        return context.get_dummy_value()

    return types.none(y, WHOLE, factor, WHOLE, numbers, WHOLE), generate


class _Code:
    """Arrays of vectors that are arguments, and loops over them."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        self.pointers = {
            i: data(context, builder, signature, arguments, i)
            for i, kind in enumerate(signature.args)
            if isinstance(kind, types.Array)
        }

    def load(self, argument: int, index: Any) -> Any:
        """A vector."""
        return load(self.builder, self.pointers[argument], self._element(index), LANES_OF_GROUP)

    def store(self, value: Any, argument: int, index: Any) -> None:
        """Write a vector."""
        store(self.builder, value, self.pointers[argument], self._element(index))

    def length(self, argument: int) -> Any:
        """Vectors on the last axis but one."""
        kind = self.signature.args[argument]
        array = self.context.make_array(kind)(self.context, self.builder, self.arguments[argument])
        return self.builder.extract_value(array.shape, kind.ndim - 2)

    def each(self, count: Any, body: Any) -> None:
        """Run body(j) for j < count."""
        with cgutils.for_range(self.builder, count) as loop:
            body(loop.index)

    def total(self, count: Any, term: Any) -> Any:
        """What `term` makes of 0 for all j < count, in several sums that are added at the end."""
        builder = self.builder
        rounds = builder.sdiv(count, constant(AT_ONCE))

        def body(i: Any, totals: list[Any]) -> list[Any]:
            begin = builder.mul(i, constant(AT_ONCE))
            return [term(builder.add(begin, constant(j)), total) for j, total in enumerate(totals)]

        one, other, third, fourth = self.carried(rounds, [ZERO] * AT_ONCE, body)
        together = builder.fadd(builder.fadd(one, other), builder.fadd(third, fourth))
        done = builder.mul(rounds, constant(AT_ONCE))
        left = builder.sub(count, done)
        return self.carried(left, [together], lambda i, totals: [term(builder.add(done, i), totals[0])])[0]

    def carried(self, count: Any, totals: list[Any], body: Any) -> list[Any]:
        """Values that stay in registers from `totals` on, through body(i, values) for i < count."""
        builder, before = self.builder, self.builder.block
        test, inner, after = (builder.function.append_basic_block(name) for name in ("test", "inner", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        i = builder.phi(INDEX)
        i.add_incoming(constant(0), before)
        values = [builder.phi(LANES_OF_GROUP) for _ in totals]
        for value, total in zip(values, totals, strict=True):
            value.add_incoming(total, before)
        builder.cbranch(builder.icmp_signed("<", i, count), inner, after)
        builder.position_at_end(inner)
        results = body(i, values)
        ends = builder.block
        i.add_incoming(builder.add(i, constant(1)), ends)
        for value, result in zip(values, results, strict=True):
            value.add_incoming(result, ends)
        builder.branch(test)
        builder.position_at_end(after)
        return values

    def _element(self, index: Any) -> Any:
        return self.builder.mul(index, constant(GROUP))
