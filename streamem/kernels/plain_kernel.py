"""Any family as a `Kernel`: models and families made of families need one code path for fast and four-line ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from numpy.typing import DTypeLike, NDArray

from streamem.core.ports import Mixing

Array = NDArray[Any]
Made = TypeVar("Made", bound=Mixing)

_OWN = threading.local()


def drop_kernel() -> None:
    """Forget the kernel that this thread holds, and its parameters."""
    _OWN.held = None


def reused_kernel(owner: object, params: object, dtype: DTypeLike, make: Callable[[], Made]) -> Made:
    """The kernel that this thread made last, restarted, if it was for the same owner, parameters and dtype; else a new
    one.

    To make one costs as much as thousands of rows. It is held, with its parameters, until the thread ends, makes the
    next one or is told to `drop_kernel`.
    """
    known = getattr(_OWN, "held", None)
    if known is not None and known[0] is owner and known[1] is params and known[2] == dtype:
        kernel: Made = known[3]
        known[3].restart()
        return kernel
    del known
    drop_kernel()
    kernel = make()
    _OWN.held = (owner, params, dtype, kernel) if kernel.reusable else None
    return kernel
