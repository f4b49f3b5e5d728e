"""What NumPy reaches only by many passes over memory, compiled by Numba: the decorator, and an exponential.

Compiled once per machine and kept beside the source (or in the user's cache folder); the lock of the interpreter is
free meanwhile. Floating point keeps its meaning for infinities and NaN; only a product and a sum may be fused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from streamem.machine.checked_cache import keep_on_disk
from streamem.machine.compiling import announce
from streamem.machine.importing import uninterrupted
from streamem.machine.whole_numba import intrinsic, njit, overload, types
from streamem.machine.without_machine_code import IS_POSSIBLE, UnwrittenCompiler

Function = TypeVar("Function", bound=Callable[..., Any])

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LN2_HIGH_32, LN2_LOW_32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
TO_INTEGER = 1.5 * 2.0**52
"""Added to a small number, it leaves the nearest integer in the last bits: AVX2 cannot convert four numbers at once."""

LEAST, LEAST_32 = -650.0, np.float32(-69.0)
"""Below these the exponential is 0: products with its smallest values would be denormal, which processors hate."""


OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}, "no_cfunc_wrapper": True}
"""Of all compiled functions. None has the wrapper for callers in C, which nobody here is."""


def compiled(function: Function) -> Function:
    """Compile at the first call; keep the result on disk where a folder can be written."""
    dispatcher = njit(**OPTIONS)(function)
    keep_on_disk(dispatcher, function)
    return cast(Function, dispatcher)


def compiled_inside(function: Function) -> Function:
    """`compiled` for callers that are compiled too: without the wrapper for Python, a fifth of the time to compile, and
    without machine code of its own.

    Raises
    ------
    TypeError : Python calls the function
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"{function.__module__}.{function.__qualname__} is compiled for callers that are compiled, and Python "
            "called it: decorate it with compiled instead of compiled_inside"
        )

    compiler = {"pipeline_class": UnwrittenCompiler} if IS_POSSIBLE else {}
    dispatcher = njit(**OPTIONS, no_cpython_wrapper=True, **compiler)(function)
    keep_on_disk(dispatcher, function, has_machine_code=not IS_POSSIBLE)
    dispatcher._insert = lambda *_, **__: None  # Python would find and call the wrapper that is not there
    dispatcher._compile_for_args = refuse
    return cast(Function, dispatcher)


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(context: Any, bits: Any) -> Any:
    """The float whose bits these are."""
    target = types.float64 if bits == types.int64 else types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(target))

    return target(bits), generate


@intrinsic  # type: ignore[untyped-decorator]
def _bits(context: Any, number: Any) -> Any:
    """The bits of a float as an integer of its size."""
    target = types.int64 if number == types.float64 else types.int32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(target))

    return target(number), generate


def exp_nonpositive(x: float) -> float:
    """exp(x) for x ≤ 0 to a unit in the last place, in a form that vectorizes; call it from compiled functions.

    x = k·ln 2 + r with |r| ≤ ½ ln 2 (Cody & Waite 1980), and the Taylor series of exp(r).
    """
    return float(np.exp(x))


@overload(exp_nonpositive, inline="always")  # type: ignore[untyped-decorator]
def _exp_nonpositive(x: Any) -> Any:
    return _exp_32 if x == types.float32 else _exp_64


def _exp_64(x: Any) -> Any:
    bounded = LEAST if x < LEAST else x
    shifted = bounded * LOG2_E + TO_INTEGER
    k = shifted - TO_INTEGER
    r = (bounded - k * LN2_HIGH) - k * LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    value = _as_float(_bits(p) + (_bits(shifted) << 52))
    return 0.0 if x < LEAST else value


def _exp_32(x: Any) -> Any:
    bounded = LEAST_32 if x < LEAST_32 else x
    k = np.floor(bounded * np.float32(LOG2_E) + np.float32(0.5))
    r = (bounded - k * LN2_HIGH_32) - k * LN2_LOW_32
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    value = p * _as_float(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))
    return np.float32(0.0) if x < LEAST_32 else value


announce()


@compiled
def _nothing() -> None:
    """What Numba imports and registers at its first call is brought in by this one, in one piece."""


with uninterrupted():
    _nothing()
