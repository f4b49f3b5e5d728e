"""The steps of a block of rows, which each arithmetic defines for its own values; Numba chooses by their type.

The passes of `block_passes` call these four, and `implement` says what runs for a kind of values: a NamedTuple of
parameters, buffers and sums. Choosing costs nothing at run time, and the choice is part of the key of compiled code on
disk, which a function given as an argument would not be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from numpy.typing import NDArray

from streamem.machine.compiled import OPTIONS
from streamem.machine.whole_numba import overload

Array = NDArray[Any]

FINE = -1
"""What `load` returns where all values are such as the arithmetic takes; else the position of the first other one."""


class _Steps(NamedTuple):
    load: Callable[..., Any]
    scores: Callable[..., Any]
    add: Callable[..., Any]
    add_rows: Callable[..., Any]
    next_rows: Callable[..., Any]
    filled_up: Callable[..., Any]


_STEPS: dict[type, _Steps] = {}


def _never(own: Any, *_: Any) -> NoReturn:
    raise TypeError(f"{type(own).__name__} runs in compiled functions only")


def load(own: Any, x: Array) -> int:
    """Take rows x (b, d); the position of the first value that cannot be, or `FINE`."""
    return _never(own, x)


def scores(own: Any, out: Array) -> None:
    """out (K, b) = log-densities of the loaded rows, without terms that are common to all components."""
    _never(own, out)


def add(own: Any, posterior: Array, b: int) -> None:
    """Add the statistics of the b loaded rows, weighted by a posterior (K, at least b)."""
    _never(own, posterior, b)


def add_rows(own: Any, weights: Array) -> None:
    """Add the statistics of the loaded rows, weighted by weights (b, at least K)."""
    _never(own, weights)


def next_rows(own: Any, left: int, most: int) -> int:
    """Rows of the next block, where so many are left."""
    return _never(own, left, most)


def filled_up(own: Any, b: int) -> int:
    """Columns of the posterior of b rows."""
    return _never(own, b)


def _fewest(own: Any, left: Any, most: Any) -> Any:
    return min(left, most)


def _as_many(own: Any, b: Any) -> Any:
    return b


def implement(
    kind: type,
    load: Callable[..., Any] = _never,
    scores: Callable[..., Any] = _never,
    add: Callable[..., Any] = _never,
    add_rows: Callable[..., Any] = _never,
    next_rows: Callable[..., Any] = _fewest,
    filled_up: Callable[..., Any] = _as_many,
) -> None:
    """Say what the steps are for a kind of NamedTuple: Python functions, compiled where a pass calls them.

    Their arguments must have the names that they have above. Steps that are left out are never asked for.
    """
    _STEPS[kind] = _Steps(load, scores, add, add_rows, next_rows, filled_up)


@overload(load, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _load(own: Any, x: Any) -> Any:
    return _STEPS[own.instance_class].load


@overload(scores, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _scores(own: Any, out: Any) -> Any:
    return _STEPS[own.instance_class].scores


@overload(add, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _add(own: Any, posterior: Any, b: Any) -> Any:
    return _STEPS[own.instance_class].add


@overload(add_rows, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _add_rows(own: Any, weights: Any) -> Any:
    return _STEPS[own.instance_class].add_rows


@overload(next_rows, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _next_rows(own: Any, left: Any, most: Any) -> Any:
    return _STEPS[own.instance_class].next_rows


@overload(filled_up, jit_options=OPTIONS, inline="always")  # type: ignore[untyped-decorator]
def _filled_up(own: Any, b: Any) -> Any:
    return _STEPS[own.instance_class].filled_up
