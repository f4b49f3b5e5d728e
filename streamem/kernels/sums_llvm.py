"""What machine code that keeps sums in registers has in common. Imports Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamem.machine.vectors import INDEX, constant, data, vector_of
from streamem.machine.whole_numba import ir, types

Matrix = list[list[Any]]


def each_size(builder: Any, size: Any, most: int, generate: Callable[[int], None]) -> None:
    """Code for every size from 1 to `most`, of which the one runs that is wanted."""
    after = builder.function.append_basic_block("after")
    choice = builder.switch(size, after)
    for n in range(1, most + 1):
        block = builder.function.append_basic_block(f"size_{n}")
        choice.add_case(constant(n), block)
        builder.position_at_end(block)
        generate(n)
        builder.branch(after)
    builder.position_at_end(after)


class SumsCode:
    """Arguments of an intrinsic by name, and a loop that carries sums in registers."""

    def __init__(self, names: tuple[str, ...], context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder, self.vector = builder, vector_of(signature.args[0].dtype)
        self.lanes = self.vector.count
        self.value = dict(zip(names, arguments, strict=True))
        self.data, self.length = {}, {}
        for i, (name, kind) in enumerate(zip(names, signature.args, strict=True)):
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, arguments[i])
                self.data[name] = data(context, builder, signature, arguments, i)
                self.length[name] = builder.extract_value(array.shape, kind.ndim - 1)

    def place(self, name: str, row: Any, column: Any) -> Any:
        """Number of an element of a matrix."""
        return self.builder.add(self.builder.mul(row, self.length[name]), column)

    def row(self, c: int) -> Any:
        """Row of component c among those at work."""
        return self.builder.add(self.value["k"], constant(c))

    def loop(self, count: Any, step: int, shape: tuple[int, int], body: Callable[[Any, Matrix], Matrix]) -> Matrix:
        """Sums of vectors after i = 0, step, … below count, at least once; `body` says what they are after i."""
        builder, before = self.builder, self.builder.block
        block, after = (builder.function.append_basic_block(name) for name in ("sums", "done"))
        builder.branch(block)
        builder.position_at_end(block)
        i = builder.phi(INDEX)
        i.add_incoming(constant(0), before)
        sums = [[builder.phi(self.vector) for _ in range(shape[1])] for _ in range(shape[0])]
        added = body(i, sums)
        following = builder.add(i, constant(step))
        i.add_incoming(following, block)
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        for row, results in zip(sums, added, strict=True):
            for total, result in zip(row, results, strict=True):
                total.add_incoming(zero, before)
                total.add_incoming(result, block)
        builder.cbranch(builder.icmp_signed("<", following, count), block, after)
        builder.position_at_end(after)
        return added
