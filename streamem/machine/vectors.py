"""Vectors of LLVM inside compiled functions, for what Numba does not vectorize by itself. Imports Numba.

Pointers are opaque: what lies at one is said where it is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streamem.machine.lanes import LANES
from streamem.machine.whole_numba import intrinsic, ir, types

VECTOR, INDEX = ir.VectorType(ir.DoubleType(), LANES), ir.IntType(64)

FLAGS = ("contract", "nsz")
"""What arithmetic on vectors may do: fuse a product and a sum, like all compiled code here."""

POINTER = ir.PointerType()


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
    """The columns of n vectors of n elements of any type, n a power of two."""
    width = 1
    while width < len(rows):
        rows = _turned_in_blocks(builder, rows, width)
        width *= 2
    return rows


def _turned_in_blocks(builder: Any, rows: list[Any], width: int) -> list[Any]:
    """Blocks of width × width elements of pairs of rows that lie `width` apart change places across the diagonal."""
    size, result = len(rows), list(rows)
    for i in range(size):
        if i & width == 0:
            upper = [j if j & width == 0 else size + j - width for j in range(size)]
            lower = [j + width if j & width == 0 else size + j for j in range(size)]
            result[i], result[i + width] = (_mixed(builder, rows[i], rows[i + width], way) for way in (upper, lower))
    return result


def in_pairs(builder: Any, values: list[Any]) -> Any:
    """The sum of a power of two of values: of neighbours, of neighbouring sums, and so on."""
    while len(values) > 1:
        values = [builder.fadd(one, other) for one, other in zip(values[0::2], values[1::2], strict=True)]
    return values[0]


def in_halves(builder: Any, values: list[Any]) -> Any:
    """The sum of a power of two of values: each of the first half with one of the second, and so on."""
    while len(values) > 1:
        middle = len(values) // 2
        values = [builder.fadd(one, other) for one, other in zip(values[:middle], values[middle:], strict=True)]
    return values[0]


def part(builder: Any, vector: Any, first: int) -> Any:
    """`LANES` elements of a longer vector."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES)))
    return builder.shuffle_vector(vector, vector, order)


def _place(builder: Any, start: Any, step: Any, i: int) -> Any:
    return builder.add(start, builder.mul(step, constant(i)))


def _mixed(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def constant(i: int) -> Any:
    """A number of elements."""
    return ir.Constant(INDEX, i)


class Pointer(NamedTuple):
    """Where the elements of an array begin, and their type."""

    address: Any
    element: Any


def data(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Pointer:
    """The first element of an array that is an argument."""
    kind = signature.args[i]
    address = context.make_array(kind)(context, builder, arguments[i]).data
    return Pointer(opaque(builder, address), context.get_data_type(kind.dtype))


def opaque(builder: Any, address: Any) -> Any:
    """An address without the type of what lies there, which Numba's still have: through a value that may hold any."""
    anything = ir.Constant(ir.LiteralStructType([POINTER]), ir.Undefined)
    return builder.extract_value(builder.insert_value(anything, address, 0), 0)


def number(builder: Any, pointer: Pointer, index: Any) -> Any:
    """An element."""
    return builder.load(_at(builder, pointer, index), typ=pointer.element)


def load(builder: Any, pointer: Pointer, index: Any, vector: Any = VECTOR) -> Any:
    """The vector that begins at an element."""
    return builder.load(_at(builder, pointer, index), align=_aligned(vector.element), typ=vector)


def store(builder: Any, value: Any, pointer: Pointer, index: Any) -> None:
    """Write a vector, or a number, from an element on."""
    element = value.type.element if isinstance(value.type, ir.VectorType) else value.type
    builder.store(value, _at(builder, pointer, index), align=_aligned(element))


def _aligned(element: Any) -> int:
    """Vectors lie where their elements may."""
    return 8 if element == ir.DoubleType() else 4


def _at(builder: Any, pointer: Pointer, index: Any) -> Any:
    return builder.gep(pointer.address, [index], source_etype=pointer.element)


def spread(builder: Any, scalar: Any, vector: Any = VECTOR) -> Any:
    """A vector of one scalar."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    first = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, one, first)


def multiply_add(builder: Any, one: Any, other: Any, addend: Any) -> Any:
    """one · other + addend."""
    return builder.fadd(builder.fmul(one, other, flags=FLAGS), addend, flags=FLAGS)
