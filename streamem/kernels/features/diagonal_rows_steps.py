"""The steps of a block for the features 1, x̃ and x̃² of rows as they lie; compiled within the passes.

For long rows: of strips, turning rows into their anchored frame costs as much as a product (AMD Zen 3, 128 float32, 4
components: 93 of 199 ns a row; so it is 125).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.diagonal_rows import DiagonalRows
from streamem.kernels.features.diagonal_rows_llvm import (
    MOMENTS_AT_ONCE,
    SCORES_AT_ONCE,
    accumulate_squares,
    multiply_squares,
)
from streamem.kernels.steps import FINE, implement
from streamem.machine.compiled import compiled_inside
from streamem.machine.lanes import LANES, VECTOR_BYTES

Array = NDArray[Any]


@compiled_inside
def anchor_rows(x: Array, center: Array, unscale: Array, out: Array) -> None:
    """(x − center) / scale of rows x (b, d) into the first columns of out (at least b, at least d)."""
    d = x.shape[1]
    for i in range(x.shape[0]):
        row, target = x[i], out[i, :d]
        for j in range(d):
            target[j] = (row[j] - center[j]) * unscale[j]


@compiled_inside
def _multiply(coefficients: Array, z: Array, out: Array) -> None:
    """out (K, rows) of whole groups of rows, without the constant term."""
    for row in range(0, out.shape[1], LANES):
        for k in range(0, out.shape[0], SCORES_AT_ONCE):
            multiply_squares(coefficients, min(SCORES_AT_ONCE, out.shape[0] - k), k, z, row, out)


@compiled_inside
def _accumulate(resp: Array, own: DiagonalRows, b: int) -> None:
    """Totals (K, rows), by place in a block, and sums (2K, width) += of so many rows."""
    width = own.coefficients.shape[1]
    for k in range(resp.shape[0]):
        row, total = resp[k], own.totals[k]
        for i in range(b):
            total[i] += row[i]
    for k in range(0, resp.shape[0], MOMENTS_AT_ONCE):
        for column in range(0, width, VECTOR_BYTES // resp.itemsize):
            accumulate_squares(resp, min(MOMENTS_AT_ONCE, resp.shape[0] - k), k, own.z, b, column, own.sums)


def _load(own: Any, x: Any) -> Any:
    anchor_rows(x, own.center, own.unscale, own.z)
    return FINE


def _scores(own: Any, out: Any) -> Any:
    _multiply(own.coefficients, own.z, out)


def _add(own: Any, posterior: Any, b: Any) -> Any:
    _accumulate(posterior, own, b)


def _filled_up(own: Any, b: Any) -> Any:
    return -(-b // LANES) * LANES


implement(DiagonalRows, _load, _scores, _add, filled_up=_filled_up)
