"""The machine code of products with features that share a row of z, group by group. Imports Numba.

The features z_left·z_j of a group are never made: scores are z_left·Σ_j η_j·z_j, and statistics sums of z_j with
weights that are multiplied with z_left already. Feature by feature one of seven operations makes a feature.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.features.strip_llvm import VECTORS, Product, Statistics
from streamem.kernels.sums_llvm import Matrix, each_size
from streamem.kernels.tiling import MOST_AT_ONCE
from streamem.machine.vectors import constant, load, multiply_add, store
from streamem.machine.whole_numba import intrinsic, types


@intrinsic  # type: ignore[untyped-decorator]
def multiply_group(
    typing: Any,
    natural: Any,
    size: Any,
    k: Any,
    left: Any,
    right: Any,
    f: Any,
    count: Any,
    z: Any,
    start: Any,
    out: Any,
) -> Any:
    """out[k + c, r] += z[left, r]·Σ_j natural[k + c, f + j]·z[right + j, r], j < count, of a strip of rows.

    Of `size` components; all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("natural", "size", "k", "left", "right", "f", "count", "z", "start", "out")
        code = _GroupProduct(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(natural, whole, whole, whole, whole, whole, whole, z, whole, out), generate


def _statistics_of(features: int) -> Any:
    """The statistics of so many neighbouring rows of z."""

    @intrinsic  # type: ignore[untyped-decorator]
    def accumulate(
        typing: Any, weighted: Any, size: Any, k: Any, right: Any, f: Any, z: Any, columns: Any, sums: Any
    ) -> Any:
        """sums[f + i, k + c] += Σ_r weighted[c, r]·z[right + i, r], i < features, of `size` components.

        Over r < columns, whole vectors and at least one; sums are float64, all in C order.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            names = ("weighted", "size", "k", "right", "f", "z", "columns", "sums")
            code = _GroupStatistics(names, context, builder, signature, arguments)
            code.features_at_once = features
            each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
            return context.get_dummy_value()

        whole = types.int64
        return types.none(weighted, whole, whole, whole, whole, z, whole, sums), generate

    return accumulate


accumulate_row, accumulate_two_rows = _statistics_of(1), _statistics_of(2)


class _GroupProduct(Product):
    """Components by vectors of a strip: what features share is multiplied with their sum."""

    def generate(self, components: int) -> None:
        columns = [self.builder.add(self.value["start"], constant(v * self.lanes)) for v in range(VECTORS)]

        def body(j: Any, sums: Matrix) -> Matrix:
            row, feature = (self.builder.add(self.value[name], j) for name in ("right", "f"))
            values = [load(self.builder, self.data["z"], self.place("z", row, c), self.vector) for c in columns]
            return [self.added(totals, c, feature, values) for c, totals in enumerate(sums)]

        sums = self.loop(self.value["count"], 1, (components, VECTORS), body)
        for v, column in enumerate(columns):
            shared = load(self.builder, self.data["z"], self.place("z", self.value["left"], column), self.vector)
            for c, totals in enumerate(sums):
                place = self.place("out", self.row(c), column)
                before = load(self.builder, self.data["out"], place, self.vector)
                store(self.builder, multiply_add(self.builder, shared, totals[v], before), self.data["out"], place)


class _GroupStatistics(Statistics):
    """Components by features: what features share is in the weights."""

    features_at_once: int

    def generate(self, components: int) -> None:
        rows = [self.builder.add(self.value["right"], constant(i)) for i in range(self.features_at_once)]

        def body(column: Any, sums: Matrix) -> Matrix:
            values = [load(self.builder, self.data["z"], self.place("z", row, column), self.vector) for row in rows]
            return [self.added(totals, c, column, values) for c, totals in enumerate(sums)]

        self.add_sums(self.loop(self.value["columns"], self.lanes, (components, self.features_at_once), body))

    def weights(self, c: int, column: Any) -> Any:
        place = self.place("weighted", constant(c), column)
        return load(self.builder, self.data["weighted"], place, self.vector)
