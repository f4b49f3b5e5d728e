"""What is used of Numba and llvmlite, imported in one piece: the half of them, after an interrupt, is lost for good.

The only file that imports them while it is loaded; `machine.compiled` also makes the first call in one piece.
"""

from __future__ import annotations

from streamem.machine.errors import CompilationDisabledError
from streamem.machine.importing import uninterrupted

with uninterrupted():
    from llvmlite import ir
    from numba import carray, config, njit, types
    from numba.core import caching, cgutils
    from numba.extending import intrinsic, overload

if config.DISABLE_JIT:  # what writes LLVM's instructions has no other form
    raise CompilationDisabledError(
        "NUMBA_DISABLE_JIT is set, so that Numba compiles nothing, and streamem computes in compiled code: unset it "
        "(del os.environ['NUMBA_DISABLE_JIT'] before Numba is imported) and start Python again"
    )

__all__ = ["caching", "carray", "cgutils", "intrinsic", "ir", "njit", "overload", "types"]
