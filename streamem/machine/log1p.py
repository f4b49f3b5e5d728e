"""log(1 + x) for x ≥ 0 in a form that vectorizes; importing this module imports Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.machine.compiled import LN2_HIGH, LN2_HIGH_32, LN2_LOW, LN2_LOW_32, TO_INTEGER, _as_float, _bits
from streamem.machine.whole_numba import overload, types

HALVES, HALVES_32 = 0x3FE6A09E667F3BCD, np.int32(0x3F3504F3)
"""The bits of √½: what lies beyond them tells the exponent of y, so that y = 2^k·m with √½ ≤ m < √2."""

INTEGERS = 0x4338000000000000
"""The bits of `TO_INTEGER`, to which a small integer is added: AVX2 cannot convert four integers at once."""


def log1p_nonnegative(x: float) -> float:
    """log(1 + x) for x ≥ 0 to two units in the last place, also where x is tiny; call it from compiled functions.

    1 + x = 2^k·m, and log m = 2 artanh((m − 1)/(m + 1)) by its series (Abramowitz & Stegun 1964, 4.1.28); what rounding
    of 1 + x takes away is added as a quotient. NaN and infinity give NaN.
    """
    return float(np.log1p(x))


@overload(log1p_nonnegative, inline="always")  # type: ignore[untyped-decorator]
def _log1p(x: Any) -> Any:
    return _log1p_32 if x == types.float32 else _log1p_64


def _log1p_64(x: Any) -> Any:
    y = 1.0 + x
    lost = (x - (y - 1.0)) / y
    k = (_bits(y) - HALVES) >> 52
    f = _as_float(_bits(y) - (k << 52)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    exponent = _as_float(k + INTEGERS) - TO_INTEGER
    return exponent * LN2_HIGH + (2.0 * s + (2.0 * s * z * p + (exponent * LN2_LOW + lost)))


def _log1p_32(x: Any) -> Any:
    one, two = np.float32(1.0), np.float32(2.0)
    y = one + x
    lost = (x - (y - one)) / y
    k = np.int32(np.int32(_bits(y) - HALVES_32) >> np.int32(23))
    f = _as_float(np.int32(_bits(y) - np.int32(k << np.int32(23)))) - one
    s = f / (two + f)
    z = s * s
    p = np.float32(1.0 / 9.0)
    p = p * z + np.float32(1.0 / 7.0)
    p = p * z + np.float32(1.0 / 5.0)
    p = p * z + np.float32(1.0 / 3.0)
    exponent = np.float32(k)
    return exponent * LN2_HIGH_32 + (two * s + (two * s * z * p + (exponent * LN2_LOW_32 + lost)))
