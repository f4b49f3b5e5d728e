"""The machine code of products of matrices with features that are never written down. Imports Numba.

A feature is the product of two rows of z. It is made in registers from two vectors of each, or one, and used there by
up to six components, whose sums stay in registers from the first feature (or row) to the last: no panel of features
is written, read, or packed.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.sums_llvm import Matrix, SumsCode, each_size
from streamem.kernels.tiling import MOST_AT_ONCE, STRIP_BYTES
from streamem.machine.lanes import LANES, VECTOR_BYTES
from streamem.machine.vectors import (
    FLAGS,
    INDEX,
    VECTOR,
    constant,
    in_halves,
    load,
    multiply_add,
    number,
    part,
    spread,
    store,
    turned,
)
from streamem.machine.whole_numba import intrinsic, types

VECTORS = STRIP_BYTES // VECTOR_BYTES


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typing: Any, natural: Any, size: Any, k: Any, left: Any, right: Any, z: Any, start: Any, out: Any) -> Any:
    """out[k + c, r] = Σ_f natural[k + c, f]·z[left[f], r]·z[right[f], r], of a strip of rows from `start` on.

    Of `size` components; all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("natural", "size", "k", "left", "right", "z", "start", "out")
        code = Product(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(natural, whole, whole, left, right, z, whole, out), generate


@intrinsic  # type: ignore[untyped-decorator]
def accumulate(
    typing: Any, resp: Any, size: Any, k: Any, left: Any, right: Any, f: Any, g: Any, z: Any, columns: Any, sums: Any
) -> Any:
    """sums[f, k + c] += Σ_r resp[k + c, r]·z[left[f], r]·z[right[f], r], and to sums[f + 1] the same of feature g.

    Of `size` components, over r < columns, whole vectors and at least one; sums are float64, all in C order.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = ("resp", "size", "k", "left", "right", "f", "g", "z", "columns", "sums")
        code = Statistics(names, context, builder, signature, arguments)
        each_size(builder, arguments[1], MOST_AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(resp, whole, whole, left, right, whole, whole, z, whole, sums), generate


class _Code(SumsCode):
    """Features from the rows of z."""

    def features(self, feature: Any, columns: list[Any]) -> list[Any]:
        """A feature, from each of these columns on: a vector each."""
        one, other = self._z_rows("left", feature, columns), self._z_rows("right", feature, columns)
        return [self.builder.fmul(a, b, flags=FLAGS) for a, b in zip(one, other, strict=True)]

    def _z_rows(self, side: str, feature: Any, columns: list[Any]) -> list[Any]:
        row = self.builder.sext(number(self.builder, self.data[side], feature), INDEX)
        return [load(self.builder, self.data["z"], self.place("z", row, c), self.vector) for c in columns]


class Product(_Code):
    """Components by vectors of a strip."""

    def generate(self, components: int) -> None:
        columns = [self.builder.add(self.value["start"], constant(v * self.lanes)) for v in range(VECTORS)]

        def body(feature: Any, sums: Matrix) -> Matrix:
            values = self.features(feature, columns)
            return [self.added(row, c, feature, values) for c, row in enumerate(sums)]

        for c, row in enumerate(self.loop(self.length["left"], 1, (components, VECTORS), body)):
            for column, total in zip(columns, row, strict=True):
                store(self.builder, total, self.data["out"], self.place("out", self.row(c), column))

    def added(self, sums: list[Any], c: int, feature: Any, values: list[Any]) -> list[Any]:
        """Sums of component c, and a feature's term."""
        place = self.place("natural", self.row(c), feature)
        factor = spread(self.builder, number(self.builder, self.data["natural"], place), self.vector)
        return [multiply_add(self.builder, factor, value, total) for value, total in zip(values, sums, strict=True)]


class Statistics(_Code):
    """Components by two features."""

    def generate(self, components: int) -> None:
        pair = [self.value["f"], self.value["g"]]

        def body(column: Any, sums: Matrix) -> Matrix:
            values = [self.features(feature, [column])[0] for feature in pair]
            return [self.added(row, c, column, values) for c, row in enumerate(sums)]

        self.add_sums(self.loop(self.value["columns"], self.lanes, (components, 2), body))

    def add_sums(self, sums: Matrix) -> None:
        """Add sums of components by features to the sums in memory."""
        components = len(sums)
        for i in range(len(sums[0])):
            feature = self.builder.add(self.value["f"], constant(i))
            totals = [self._wide(row[i]) for row in sums]
            for c in range(0, components - LANES + 1, LANES):
                self._add_side_by_side(feature, c, totals[c : c + LANES])
            for c in range(components - components % LANES, components):
                self._add(feature, c, totals[c])

    def added(self, sums: list[Any], c: int, column: Any, values: list[Any]) -> list[Any]:
        """Sums of component c, and a vector's terms."""
        weights = self.weights(c, column)
        return [multiply_add(self.builder, weights, value, total) for value, total in zip(values, sums, strict=True)]

    def weights(self, c: int, column: Any) -> Any:
        """Weights of component c among those at work, from a column on."""
        return load(self.builder, self.data["resp"], self.place("resp", self.row(c), column), self.vector)

    def _wide(self, total: Any) -> Any:
        """A vector's lanes in float64, its upper half added to the lower one where they are float32."""
        if total.type == VECTOR:
            return total
        halves = [
            self.builder.fpext(part(self.builder, total, first), VECTOR) for first in range(0, total.type.count, LANES)
        ]
        return self.builder.fadd(*halves)

    def _add_side_by_side(self, feature: Any, c: int, totals: list[Any]) -> None:
        """The lanes of `LANES` vectors to as many sums beside each other, in the order of `_add`."""
        builder = self.builder
        added = in_halves(builder, turned(builder, totals))
        place = self.place("sums", feature, self.row(c))
        store(builder, builder.fadd(load(builder, self.data["sums"], place), added), self.data["sums"], place)

    def _add(self, feature: Any, c: int, total: Any) -> None:
        """The lanes of a vector to a sum."""
        builder, sums = self.builder, self.data["sums"]
        added = in_halves(builder, [builder.extract_element(total, constant(i)) for i in range(LANES)])
        place = self.place("sums", feature, self.row(c))
        store(builder, builder.fadd(number(builder, sums, place), added), sums, place)
