"""Columns that lie apart, side by side in rows: one compiled call for all of them. Imports Numba."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.machine.compiled import compiled
from streamem.machine.whole_numba import carray, intrinsic, types

Array = NDArray[Any]

TILE = 32
"""Rows that are written for all columns before the next: they stay in the first cache."""

BESIDE = 4
"""Columns that one loop writes."""


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(context: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of an array's dtype."""
    target = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(target))

    return target(types.int64, like), generate


@compiled
def _write(addresses: Array, out: Array, first: int) -> None:
    rows, width = len(out), len(addresses)
    whole = width - width % BESIDE
    for start in range(0, rows, TILE):
        stop = min(start + TILE, rows)
        for j in range(0, whole, BESIDE):
            a = carray(_pointer(addresses[j], out), rows)
            b = carray(_pointer(addresses[j + 1], out), rows)
            c = carray(_pointer(addresses[j + 2], out), rows)
            d = carray(_pointer(addresses[j + 3], out), rows)
            to = first + j
            for i in range(start, stop):
                out[i, to], out[i, to + 1], out[i, to + 2], out[i, to + 3] = a[i], b[i], c[i], d[i]
        for j in range(whole, width):
            column = carray(_pointer(addresses[j], out), rows)
            for i in range(start, stop):
                out[i, first + j] = column[i]


def interleave(columns: Sequence[Array], out: Array, first: int = 0) -> None:
    """Write contiguous columns (n,) of out's dtype side by side into out (n, d), from column `first` on.

    A column at a time by NumPy, two threads take as long as one: they wait for each other's interpreter lock.

    Raises
    ------
    ValueError : a column has another length or dtype, or is not contiguous, or there are too many
    """
    if not out.flags.c_contiguous or first + len(columns) > out.shape[1]:
        raise ValueError(f"{len(columns)} columns from {first} on do not fit into rows of {out.shape[1]} in C order")
    if any(c.shape != out.shape[:1] or c.dtype != out.dtype or not c.flags.c_contiguous for c in columns):
        raise ValueError(f"contiguous columns of {len(out)} {out.dtype} are needed")
    _write(np.array([column.__array_interface__["data"][0] for column in columns], np.int64), out, first)
