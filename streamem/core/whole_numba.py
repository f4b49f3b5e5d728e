"""What is used of Numba and llvmlite, imported in one piece: the half of them, after an interrupt, is lost for good.

The only file that imports them while it is loaded; `core.compiled` also makes the first call in one piece.
"""

from __future__ import annotations

from streamem.core.importing import uninterrupted

with uninterrupted():
    from llvmlite import ir
    from numba import carray, njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

__all__ = ["carray", "cgutils", "intrinsic", "ir", "njit", "overload", "types"]
