"""How far two results of one sum may differ by rounding, and the comparisons that use this bound."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamem.core.arrays import Arrays, Params
from streamem.core.chunk import as_floats, compute_dtype
from streamem.core.stats import Stats

BLOCK = 8
"""Rows of which the statistics count together in the magnitude of a sum."""


def tolerance(dtype: DTypeLike, n: int, conditioning: float = 1.0) -> float:
    """Largest relative difference that rounding explains: 2·eps·(n + 8)·conditioning.

    Two orders of summation of n terms differ by at most 2(n − 1)·eps·Σ|terms| (Higham 2002, §4.2); 8 stands for the
    operations on each term.

    Parameters
    ----------
    dtype : float dtype of the arithmetic
    n : number of terms
    conditioning : how much what follows the sum (a division, an inverse) amplifies its rounding
    """
    return 2.0 * float(np.finfo(dtype).eps) * (n + 8) * conditioning


def magnitude_of(
    statistics: Callable[[NDArray[Any], NDArray[Any]], Stats], x: NDArray[Any], resp: NDArray[Any]
) -> Stats:
    """Σ |statistics of eight rows|, about the size of what a sum over rows rounds against: an eighth of the calls.

    Parameters
    ----------
    statistics : of rows (n, d) and their responsibilities (n, K)
    x, resp : rows, responsibilities
    """
    blocks = (statistics(x[i : i + BLOCK], resp[i : i + BLOCK]).flatten() for i in range(0, len(x), BLOCK))
    first, *rest = (Stats.unflatten({name: np.abs(leaf) for name, leaf in block.items()}) for block in blocks)
    return sum(rest, start=first)


def require(condition: bool, message: str) -> None:
    """An assertion that also holds under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def assert_close(
    actual: Any, expected: Any, rtol: float, what: str, magnitude: Any = None, skip: Collection[str] = ()
) -> None:
    """Assert that arrays, or sets of named arrays, differ by no more than `rtol` times a magnitude.

    Parameters
    ----------
    magnitude : size of what was summed, shaped like `expected`; by default the largest absolute value of each array
    skip : names that are not compared
    """
    if not isinstance(expected, Arrays):
        _assert_array_close(actual, expected, rtol, what, magnitude)
        return
    found, wanted = actual.flatten(), expected.flatten()
    require(found.keys() == wanted.keys(), f"{what}: {sorted(found)} where {sorted(wanted)} are needed")
    sizes = {} if magnitude is None else magnitude.flatten()
    for name in wanted.keys() - set(skip):
        _assert_array_close(found[name], wanted[name], rtol, f"{what}, {name}", sizes.get(name))


def _assert_array_close(actual: ArrayLike, expected: ArrayLike, rtol: float, what: str, magnitude: Any) -> None:
    found, wanted = (np.asarray(_shown(values), dtype=np.float64) for values in (actual, expected))
    require(found.shape == wanted.shape, f"{what}: shape {found.shape} where {wanted.shape} is needed")
    if not wanted.size:
        return
    size = np.abs(wanted).max() if magnitude is None else np.abs(magnitude)
    # Negated, so that NaN is a difference.
    wrong = ~(np.abs(found - wanted) <= rtol * size)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.size} values differ by more than rounding ({rtol:.3g} relative); "
            f"the first, at {at}, is {found[at]!r} where {wanted[at]!r} is needed"
        )


def assert_equal(actual: Any, expected: Any, what: str) -> None:
    """Assert that two values have equal bits, shapes and dtypes."""
    same = actual == expected if isinstance(expected, Arrays) else _same_bits(_shown(actual), _shown(expected))
    require(bool(same), f"{what}: not the same bits:\n{actual!r}\n{expected!r}")


def _shown(values: Any) -> np.ndarray[Any, Any]:
    """An array, with NaN where a mask hides a value."""
    array = np.asanyarray(values)
    return as_floats(array, compute_dtype(array.dtype)) if np.ma.is_masked(array) else np.asarray(array)


def _same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def relabelled(params: Params, order: Any, shared: Collection[str] = (), square: Collection[str] = ()) -> Params:
    """Components in another order: along axis 0 of every array but those in `shared`, and axis 1 too in `square`."""
    moved = {name: leaf for name, leaf in params.flatten().items() if name not in shared and leaf.ndim}
    moved = {name: leaf[order][:, order] if name in square else leaf[order] for name, leaf in moved.items()}
    return Params.unflatten({**params.flatten(), **moved})
