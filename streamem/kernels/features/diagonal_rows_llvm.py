"""The machine code of sums over the features x̃ and x̃² of rows that stay as they lie. Imports Numba.

Vectors run along the features of a row: nothing is transposed, a value is loaded once for both of its features, and
the sums of some components stay in registers.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.sums_llvm import Matrix, SumsCode, each_size
from streamem.machine.lanes import LANES
from streamem.machine.vectors import (
    FLAGS,
    VECTOR,
    constant,
    in_pairs,
    load,
    multiply_add,
    number,
    part,
    spread,
    store,
    turned,
)
from streamem.machine.whole_numba import intrinsic, types

SCORES_AT_ONCE, MOMENTS_AT_ONCE = max(2, 8 // LANES), 4
"""Components: with eight sums, which is as many as keep two units busy, or sixteen of vectors of 512 bits."""


@intrinsic  # type: ignore[untyped-decorator]
def multiply_squares(typing: Any, coefficients: Any, size: Any, k: Any, z: Any, row: Any, out: Any) -> Any:
    """out[k + c, r] = Σ_j (a[k + c, j]·z[r, j] + b[k + c, j])·z[r, j] for `LANES` rows from `row` on.

    Of `size` components. coefficients (2K, width) are b and a in turn, in whole vectors, and rows of z are at least as
    wide; all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("coefficients", "size", "k", "z", "row", "out")
        code = _Scores(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], SCORES_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(coefficients, whole, whole, z, whole, out), generate


@intrinsic  # type: ignore[untyped-decorator]
def accumulate_squares(typing: Any, resp: Any, size: Any, k: Any, z: Any, rows: Any, column: Any, sums: Any) -> Any:
    """sums[2(k + c), j] += Σ_r resp[k + c, r]·z[r, j], and to the row after it the same of z², for a vector of j.

    Of `size` components, over r < rows, at least one; sums are float64, all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("resp", "size", "k", "z", "rows", "column", "sums")
        code = _Moments(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOMENTS_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(resp, whole, whole, z, whole, whole, sums), generate


class _Code(SumsCode):
    """Two rows for every component: of values, and of squares."""

    def pair_row(self, c: int, which: int) -> Any:
        """The first or second row of component c among those at work."""
        return self.builder.add(self.builder.mul(self.row(c), constant(2)), constant(which))


class _Scores(_Code):
    """Components by `LANES` rows."""

    def generate(self, components: int) -> None:
        rows = [self.builder.add(self.value["row"], constant(i)) for i in range(LANES)]

        def body(column: Any, sums: Matrix) -> Matrix:
            values = [load(self.builder, self.data["z"], self.place("z", row, column), self.vector) for row in rows]
            return [self._added(totals, c, column, values) for c, totals in enumerate(sums)]

        for c, totals in enumerate(self.loop(self.length["coefficients"], self.lanes, (components, LANES), body)):
            total = in_pairs(self.builder, turned(self.builder, [self._folded(total) for total in totals]))
            store(self.builder, total, self.data["out"], self.place("out", self.row(c), self.value["row"]))

    def _added(self, totals: list[Any], c: int, column: Any, values: list[Any]) -> list[Any]:
        slope, curvature = (self._coefficients(c, which, column) for which in range(2))
        terms = [multiply_add(self.builder, curvature, value, slope) for value in values]
        return [multiply_add(self.builder, *each) for each in zip(terms, values, totals, strict=True)]

    def _coefficients(self, c: int, which: int, column: Any) -> Any:
        place = self.place("coefficients", self.pair_row(c, which), column)
        return load(self.builder, self.data["coefficients"], place, self.vector)

    def _folded(self, total: Any) -> Any:
        """The upper half of a vector of float32 added to its lower one."""
        if total.type == VECTOR:
            return total
        return self.builder.fadd(*(part(self.builder, total, first) for first in range(0, self.lanes, LANES)))


class _Moments(_Code):
    """Components by values and squares."""

    def generate(self, components: int) -> None:
        def body(row: Any, sums: Matrix) -> Matrix:
            value = load(self.builder, self.data["z"], self.place("z", row, self.value["column"]), self.vector)
            square = self.builder.fmul(value, value, flags=FLAGS)
            return [self._added(totals, c, row, [value, square]) for c, totals in enumerate(sums)]

        for c, totals in enumerate(self.loop(self.value["rows"], 1, (components, 2), body)):
            for which, total in enumerate(totals):
                self._add(self.place("sums", self.pair_row(c, which), self.value["column"]), total)

    def _added(self, totals: list[Any], c: int, row: Any, values: list[Any]) -> list[Any]:
        place = self.place("resp", self.row(c), row)
        weight = spread(self.builder, number(self.builder, self.data["resp"], place), self.vector)
        return [multiply_add(self.builder, weight, *each) for each in zip(values, totals, strict=True)]

    def _add(self, place: Any, total: Any) -> None:
        """A vector to as many sums beside each other."""
        builder, sums = self.builder, self.data["sums"]
        for first in range(0, self.lanes, LANES):
            half = total if total.type == VECTOR else builder.fpext(part(builder, total, first), VECTOR)
            target = builder.add(place, constant(first))
            store(builder, builder.fadd(load(builder, sums, target), half), sums, target)
