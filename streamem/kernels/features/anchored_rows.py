"""Rows into their anchored frame, with rows last: (x − center) / scale, transposed in registers. Imports Numba."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.machine.compiled import compiled
from streamem.machine.lanes import LANES
from streamem.machine.vectors import VECTOR, constant, data, load, store, turned
from streamem.machine.whole_numba import intrinsic, ir, types

Array = NDArray[Any]


@intrinsic  # type: ignore[untyped-decorator]
def _turn_anchored(typing: Any, x: Any, row: Any, column: Any, center: Any, unscale: Any, out: Any) -> Any:
    """out[column + j, row + i] = (x[row + i, column + j] − center[column + j])·unscale[column + j] for i, j < LANES.

    In float64, then rounded to what out holds; all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = {types.float64: ir.DoubleType(), types.float32: ir.FloatType()}
        given, wanted = kind[signature.args[0].dtype], kind[signature.args[5].dtype]
        source, center, unscale, target = (data(context, builder, signature, arguments, i) for i in (0, 3, 4, 5))
        widths = [_width(context, builder, signature, arguments, i) for i in (0, 5)]
        near, factor = (load(builder, values, arguments[2]) for values in (center, unscale))
        rows = []
        for i in range(LANES):
            first = builder.add(builder.mul(builder.add(arguments[1], constant(i)), widths[0]), arguments[2])
            values = load(builder, source, first, ir.VectorType(given, LANES))
            if given != VECTOR.element:
                values = builder.fpext(values, VECTOR)
            values = builder.fmul(builder.fsub(values, near), factor)
            rows.append(values if wanted == VECTOR.element else builder.fptrunc(values, ir.VectorType(wanted, LANES)))
        for j, values in enumerate(turned(builder, rows)):
            first = builder.add(builder.mul(builder.add(arguments[2], constant(j)), widths[1]), arguments[1])
            store(builder, values, target, first)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(x, whole, whole, center, unscale, out), generate


def _width(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    array = context.make_array(signature.args[i])(context, builder, arguments[i])
    return builder.extract_value(array.shape, 1)


@compiled
def load_anchored(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """(x − center) / scale of rows x (b, d) into out (d, b)."""
    b, d = x.shape
    whole = b - b % LANES if d >= LANES else 0
    for row in range(0, whole, LANES):
        for column in range(0, d - LANES, LANES):
            _turn_anchored(x, row, column, center, inverse_scale, out)
        _turn_anchored(x, row, d - LANES, center, inverse_scale, out)  # some columns once more if they are no multiple
    for j in range(d):
        for i in range(whole, b):
            out[j, i] = (x[i, j] - center[j]) * inverse_scale[j]
