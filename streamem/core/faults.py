"""What contradicts itself in numbers that were read from a file: one sentence for each array, naming it.

Tolerances are bounds on rounding, so that no file is refused that streamem wrote, on whatever machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ModelFileError

Array = NDArray[Any]

SUM_TOLERANCE = 1e-6
"""How far probabilities may be off 1: they may have been set by hand, or come from float32."""


def shaped(name: str, value: Any, shape: tuple[int, ...]) -> list[str]:
    """Unless the value is a float64 array of finite numbers of that shape."""
    if not isinstance(value, np.ndarray) or value.shape != shape:
        return [f"{name} has shape {np.shape(value)}, where {shape} is needed"]
    if value.dtype != np.float64:
        return [f"{name} holds {value.dtype}, where float64 is needed"]
    if not np.isfinite(value).all():
        return [f"{name} holds values that are not finite"]
    return []


def flags(name: str, value: Any, *shapes: tuple[int, ...]) -> list[str]:
    """Unless the value is a boolean array of one of these shapes."""
    if np.shape(value) not in shapes:
        return [f"{name} has shape {np.shape(value)}, where {' or '.join(map(str, shapes))} is needed"]
    dtype = np.asarray(value).dtype
    return [] if dtype == np.bool_ else [f"{name} holds {dtype}, where bool is needed"]


def within(name: str, value: Any, shape: tuple[int, ...], low: float, high: float = np.inf) -> list[str]:
    """Unless all numbers lie between two bounds."""
    if found := shaped(name, value, shape):
        return found
    if not value.size or (low <= value.min() and value.max() <= high):
        return []
    return [f"{name} holds values from {value.min():.6g} to {value.max():.6g}; {_between(low, high)} are needed"]


def shares(name: str, value: Any, shape: tuple[int, ...]) -> list[str]:
    """Unless the value holds distributions along its last axis."""
    if found := within(name, value, shape, 0.0):
        return found
    sums = np.atleast_1d(value.sum(axis=-1))
    off = np.abs(sums - 1)
    return [f"{name} sums to {sums[off.argmax()]:.9g}, where 1 is needed"] if off.max() > SUM_TOLERANCE else []


def powers_of_two(name: str, value: Any, shape: tuple[int, ...]) -> list[str]:
    """Unless all numbers are positive powers of two."""
    if found := shaped(name, value, shape):
        return found
    wrong = (value <= 0) | (np.frexp(value)[0] != 0.5)
    return [f"{name} holds {value[wrong][0]:.6g}, where positive powers of two are needed"] if wrong.any() else []


def missing(params: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Unless all of these are there."""
    absent = [name for name in names if name not in params]
    return [f"{', '.join(absent)} are missing"] if absent else []


def prefixed(prefix: str, found: list[str]) -> list[str]:
    """Sentences about the members of a part."""
    return [f"{prefix}.{one}" for one in found]


def _between(low: float, high: float) -> str:
    return f"numbers >= {low:g}" if high == np.inf else f"numbers from {low:g} to {high:g}"


def require_faultless(path: str | os.PathLike[str], found: Sequence[str]) -> None:
    """Refuse a file that contradicts itself.

    Raises
    ------
    ModelFileError : naming every member, and what is wrong with it
    """
    if found:
        raise ModelFileError(
            f"{path} contradicts itself, although its checksums are right: {'; '.join(found)}. streamem does not write "
            "such files; use another copy, or fit anew"
        )
