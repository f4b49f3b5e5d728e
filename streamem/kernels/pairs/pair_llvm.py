"""The machine code of covariance matrices over pairs of row and component, by triangles. Imports Numba.

A row's distance needs one triangle of the factor, and its second moments one of their matrix, so that each takes d²
operations; a product of matrices would take twice as many.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.sums_llvm import Matrix, SumsCode, each_size
from streamem.kernels.tiling import MOST_AT_ONCE, STRIP_BYTES
from streamem.machine.lanes import VECTOR_BYTES
from streamem.machine.vectors import FLAGS, INDEX, constant, load, multiply_add, number, spread, store, turned
from streamem.machine.whole_numba import intrinsic, types

VECTORS = STRIP_BYTES // VECTOR_BYTES


@intrinsic  # type: ignore[untyped-decorator]
def turn_differences(typing: Any, x: Any, rows: Any, first: Any, mean: Any, j: Any, strip: Any, column: Any) -> Any:
    """strip[j + i, column + r] = x[rows[first + r], j + i] − mean[j + i] for r < lanes and i < lanes.

    Beyond the last of rows (int32) it stands for those that are missing. All others are float64 in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("x", "rows", "first", "mean", "j", "strip", "column")
        code = SumsCode(names, context, builder, signature, arguments)
        means = load(builder, code.data["mean"], code.value["j"])
        last = builder.sub(code.length["rows"], constant(1))
        differences = []
        for r in range(code.lanes):
            which = builder.add(code.value["first"], constant(r))
            which = builder.select(builder.icmp_signed("<", which, last), which, last)
            place = code.place("x", builder.sext(number(builder, code.data["rows"], which), INDEX), code.value["j"])
            differences.append(builder.fsub(load(builder, code.data["x"], place), means, flags=FLAGS))
        for i, values in enumerate(turned(builder, differences)):
            row = builder.add(code.value["j"], constant(i))
            store(builder, values, code.data["strip"], code.place("strip", row, code.value["column"]))
        return context.get_dummy_value()

    whole = types.int64
    return types.none(x, rows, whole, mean, whole, strip, whole), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_squares(typing: Any, factors: Any, size: Any, k: Any, count: Any, strip: Any, out: Any, start: Any) -> Any:
    """out[start + r] += Σ_c (Σ_i factors[k + c, i]·strip[i, r])² for c < size, i < count and the rows of a strip.

    At least one i; all float64 in C order, and a strip has as many columns as rows of data.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("factors", "size", "k", "count", "strip", "out", "start")
        code = _Squares(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(factors, whole, whole, whole, strip, out, whole), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_products(typing: Any, weighted: Any, size: Any, k: Any, count: Any, plain: Any, start: Any, out: Any) -> Any:
    """out[k + c, start + j] += Σ_r weighted[r, k + c]·plain[r, start + j] for c < size, r < count, j < a strip.

    At least one r; all float64 in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("weighted", "size", "k", "count", "plain", "start", "out")
        code = _Products(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(weighted, whole, whole, whole, plain, whole, out), generate


class _Triangle(SumsCode):
    """Numbers by vectors: a number of one matrix meets a strip's width of another."""

    def columns(self, start: Any) -> list[Any]:
        """Where the vectors of a strip begin."""
        return [self.builder.add(start, constant(v * self.lanes)) for v in range(VECTORS)]

    def added(self, sums: list[Any], name: str, place: Any, values: list[Any]) -> list[Any]:
        """Sums, and a number's products."""
        factor = spread(self.builder, number(self.builder, self.data[name], place), self.vector)
        return [multiply_add(self.builder, factor, value, total) for value, total in zip(values, sums, strict=True)]

    def add(self, name: str, place: Any, total: Any) -> None:
        """Add to a vector in memory."""
        before = load(self.builder, self.data[name], place, self.vector)
        store(self.builder, self.builder.fadd(before, total, flags=FLAGS), self.data[name], place)


class _Squares(_Triangle):
    def generate(self, size: int) -> None:
        columns = self.columns(constant(0))

        def body(i: Any, sums: Matrix) -> Matrix:
            values = [load(self.builder, self.data["strip"], self.place("strip", i, c), self.vector) for c in columns]
            return [
                self.added(row, "factors", self.place("factors", self.row(c), i), values) for c, row in enumerate(sums)
            ]

        sums = self.loop(self.value["count"], 1, (size, VECTORS), body)
        for v, column in enumerate(self.columns(self.value["start"])):
            total = self.builder.fmul(sums[0][v], sums[0][v], flags=FLAGS)
            for row in sums[1:]:
                total = multiply_add(self.builder, row[v], row[v], total)
            self.add("out", column, total)


class _Products(_Triangle):
    def generate(self, size: int) -> None:
        columns = self.columns(self.value["start"])

        def body(r: Any, sums: Matrix) -> Matrix:
            values = [load(self.builder, self.data["plain"], self.place("plain", r, c), self.vector) for c in columns]
            return [
                self.added(row, "weighted", self.place("weighted", r, self.row(c)), values)
                for c, row in enumerate(sums)
            ]

        sums = self.loop(self.value["count"], 1, (size, VECTORS), body)
        for c, row in enumerate(sums):
            for column, total in zip(columns, row, strict=True):
                self.add("out", self.place("out", self.row(c), column), total)
