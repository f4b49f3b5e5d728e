"""Vectors of LLVM inside compiled functions, for what Numba does not vectorize by itself. Imports Numba."""

from __future__ import annotations

from typing import Any

from streamem.machine.lanes import LANES
from streamem.machine.whole_numba import intrinsic, ir, types

VECTOR, INDEX = ir.VectorType(ir.DoubleType(), LANES), ir.IntType(64)

FLAGS = ("contract", "nsz")
"""What arithmetic on vectors may do: fuse a product and a sum, like all compiled code here."""


def vector_of(dtype: Any) -> Any:
    """The type of a vector of Numba's float64 or float32."""
    return VECTOR if dtype == types.float64 else ir.VectorType(ir.FloatType(), 2 * LANES)


@intrinsic  # type: ignore[untyped-decorator]
def turn(typing: Any, out: Any, first: Any, stride: Any, values: Any, start: Any, step: Any) -> Any:
    """Transpose `LANES` × `LANES` numbers, rows `step` apart from element `start` on, to rows `stride` apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, source = data(context, builder, signature, arguments, 0), data(context, builder, signature, arguments, 3)
        rows = [load(builder, source, _place(builder, arguments[4], arguments[5], i)) for i in range(LANES)]
        for i, row in enumerate(turned(builder, rows)):
            store(builder, row, to, _place(builder, arguments[1], arguments[2], i))
        return context.get_dummy_value()

    return types.none(out, types.int64, types.int64, values, types.int64, types.int64), generate


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of `LANES` vectors of as many elements, of any type."""
    a, b, c, d = rows
    pairs = [_mixed(builder, x, y, order) for order in ([0, 4, 2, 6], [1, 5, 3, 7]) for x, y in ((a, b), (c, d))]
    halves = ([0, 1, 4, 5], [2, 3, 6, 7])
    return [_mixed(builder, pairs[2 * i], pairs[2 * i + 1], half) for half in halves for i in range(2)]


def part(builder: Any, vector: Any, first: int) -> Any:
    """`LANES` elements of a longer vector."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES)))
    return builder.shuffle_vector(vector, vector, order)


def _place(builder: Any, start: Any, step: Any, i: int) -> Any:
    return builder.add(start, builder.mul(step, constant(i)))


def _mixed(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order))


def constant(i: int) -> Any:
    """A number of elements."""
    return ir.Constant(INDEX, i)


def data(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Pointer to the first element of an array that is an argument."""
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


def at(builder: Any, pointer: Any, index: Any) -> Any:
    """Pointer to an element."""
    return builder.gep(pointer, [index])


def load(builder: Any, pointer: Any, index: Any, vector: Any = VECTOR) -> Any:
    """The vector that begins at an element."""
    return builder.load(builder.bitcast(at(builder, pointer, index), vector.as_pointer()), align=_aligned(vector))


def store(builder: Any, value: Any, pointer: Any, index: Any) -> None:
    """Write a vector from an element on."""
    target = builder.bitcast(at(builder, pointer, index), value.type.as_pointer())
    builder.store(value, target, align=_aligned(value.type))


def _aligned(vector: Any) -> int:
    return 8 if vector.element == ir.DoubleType() else 4  # as its elements are


def spread(builder: Any, scalar: Any, vector: Any = VECTOR) -> Any:
    """A vector of one scalar."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    first = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, one, first)


def multiply_add(builder: Any, one: Any, other: Any, addend: Any) -> Any:
    """one · other + addend."""
    return builder.fadd(builder.fmul(one, other, flags=FLAGS), addend, flags=FLAGS)
