"""A logarithm in a form that vectorizes: Numba's own is a call for every number. Imports Numba."""

from __future__ import annotations

from streamem.machine.compiled import _as_float, _bits, compiled_inside

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
ONE_BITS, ROOT_HALF_BITS, MANTISSA = 0x3FF0000000000000, 0x3FE6A09E667F3BCD, 0x000FFFFFFFFFFFFF
WHOLE_BITS, WHOLE = 0x4330000000000000, 2.0**52 + 1023.0
"""An integer below 2⁵² in the last bits of 2⁵² is a float: AVX2 cannot convert four integers at once."""

LEAST_NORMAL, RAISED, WHOLE_RAISED = 2.0**-1022, 2.0**54, WHOLE + 54.0


@compiled_inside
def log_positive(x: float) -> float:
    """log x of a finite x > 0 to a unit in the last place; call it from compiled functions. NaN stays NaN.

    x = 2ᵏ·m with m in [√½, √2), and the minimax polynomial of fdlibm's e_log.c in s = (m − 1)/(m + 1) (Ng 1993).
    """
    small = x < LEAST_NORMAL
    raised = x * RAISED if small else x
    shifted = _bits(raised) + (ONE_BITS - ROOT_HALF_BITS)
    k = _as_float((shifted >> 52) | WHOLE_BITS) - (WHOLE_RAISED if small else WHOLE)
    f = _as_float((shifted & MANTISSA) + ROOT_HALF_BITS) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    value = k * LN2_HIGH - ((half - (s * (half + (even + odd)) + k * LN2_LOW)) - f)
    return value if x == x else x
