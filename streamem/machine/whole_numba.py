"""What is used of Numba and llvmlite, imported in one piece: the half of them, after an interrupt, is lost for good.

The only file that imports them while it is loaded; `machine.compiled` also makes the first call in one piece.
"""

from __future__ import annotations

import logging

from streamem.machine.errors import CompilationDisabledError
from streamem.machine.importing import uninterrupted

with uninterrupted():
    import numba
    from llvmlite import ir
    from numba import carray, config, njit, types
    from numba.core import caching, cgutils, codegen, compiler, event
    from numba.extending import intrinsic, overload

if config.DISABLE_JIT:  # what writes LLVM's instructions has no other form
    raise CompilationDisabledError(
        "NUMBA_DISABLE_JIT is set, so that Numba compiles nothing, and streamem computes in compiled code: unset it "
        "(del os.environ['NUMBA_DISABLE_JIT'] before Numba is imported) and start Python again"
    )

NEWEST_TESTED = (0, 68)
"""The newest Numba whose machine code the whole suite has run; `.ci/versions` meets newer ones first."""

logger = logging.getLogger("streamem")


def tell_if_untested(version: tuple[int, ...]) -> None:
    """Log a warning where Numba is newer than any that was tested."""
    if version[:2] > NEWEST_TESTED:
        found, newest = (".".join(map(str, numbers[:2])) for numbers in (version, NEWEST_TESTED))
        logger.warning(
            "numba %s is newer than %s, the newest that streamem was tested with; if compiling fails, "
            "pip install 'numba==%s.*'",
            found,
            newest,
            newest,
        )


tell_if_untested(tuple(numba.version_info[:2]))

__all__ = [
    "caching",
    "carray",
    "cgutils",
    "codegen",
    "compiler",
    "config",
    "event",
    "intrinsic",
    "ir",
    "njit",
    "overload",
    "types",
]
