"""The machine code of look-ups: rows of a table that are summed, or added to, in whole vectors. Imports Numba.

Components lie side by side, filled up to whole vectors, so that a code serves `LANES` of them by one addition. Numba's
own loops over a few components spend their time on the question how many there are.
"""

from __future__ import annotations

from typing import Any

from streamem.kernels.sums_llvm import Matrix, SumsCode, each_size
from streamem.machine.lanes import LANES
from streamem.machine.vectors import INDEX, constant, load, number, store
from streamem.machine.whole_numba import cgutils, intrinsic, types

AT_ONCE = 4
"""Vectors of components whose sums stay in registers from the first column to the last."""


@intrinsic  # type: ignore[untyped-decorator]
def sum_rows(typing: Any, table: Any, size: Any, k: Any, places: Any, row: Any, out: Any, to: Any) -> Any:
    """out[to, k + c] = Σ_j table[places[row, j], k + c] for `size` vectors of components c, in the order of j.

    Table and out are float64, places int32, all in C order and as wide as whole vectors where components are columns.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Sums(("table", "size", "k", "places", "row", "out", "to"), context, builder, signature, arguments)
        each_size(builder, arguments[1], AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(table, whole, whole, places, whole, out, whole), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_to_rows(typing: Any, sums: Any, size: Any, k: Any, places: Any, row: Any, resp: Any, weight: Any) -> Any:
    """sums[places[row, j], k + c] and weight[k + c] += resp[row, k + c] for `size` vectors of components c as above."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Additions(
            ("sums", "size", "k", "places", "row", "resp", "weight"), context, builder, signature, arguments
        )
        each_size(builder, arguments[1], AT_ONCE, code.generate)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(sums, whole, whole, places, whole, resp, weight), generate


class _Code(SumsCode):
    """Rows of a table by the codes of a row of data."""

    def entry(self, name: str, j: Any) -> Any:
        """Where the row of a table begins that column j stands for, at component k."""
        code = number(self.builder, self.data["places"], self.place("places", self.value["row"], j))
        return self.place(name, self.builder.sext(code, INDEX), self.value["k"])

    def vector_of(self, begin: Any, c: int) -> Any:
        """Number of the first element of vector c from an element on."""
        return self.builder.add(begin, constant(c * LANES))


class _Sums(_Code):
    """Vectors of components."""

    def generate(self, vectors: int) -> None:
        def body(j: Any, sums: Matrix) -> Matrix:
            begin = self.entry("table", j)
            terms = [load(self.builder, self.data["table"], self.vector_of(begin, c)) for c in range(vectors)]
            return [[self.builder.fadd(total, term) for total, term in zip(sums[0], terms, strict=True)]]

        [totals] = self.loop(self.length["places"], 1, (1, vectors), body)
        begin = self.place("out", self.value["to"], self.value["k"])
        for c, total in enumerate(totals):
            store(self.builder, total, self.data["out"], self.vector_of(begin, c))


class _Additions(_Code):
    """Vectors of components."""

    def generate(self, vectors: int) -> None:
        begin = self.place("resp", self.value["row"], self.value["k"])
        values = [load(self.builder, self.data["resp"], self.vector_of(begin, c)) for c in range(vectors)]
        self._add("weight", self.value["k"], values)
        with cgutils.for_range(self.builder, self.length["places"]) as loop:
            self._add("sums", self.entry("sums", loop.index), values)

    def _add(self, name: str, begin: Any, values: list[Any]) -> None:
        for c, value in enumerate(values):
            place = self.vector_of(begin, c)
            store(
                self.builder,
                self.builder.fadd(load(self.builder, self.data[name], place), value),
                self.data[name],
                place,
            )
