"""Which work is so small that plain NumPy does it: no function is compiled for it, and Numba is not imported.

Decided from the rows of a whole pass and the numbers of the statistics, each of which costs about a product a row:
never from what is compiled already, and the same for every chunk, thread and worker of a pass.
"""

from __future__ import annotations

import os
import threading

from streamem.core.errors import ParameterError

VARIABLE = "STREAMEM_SMALL_WORK"

CHOICES = ("numpy", "compiled")

MOST_PRODUCTS = 2**16
"""Rows times numbers of the statistics up to which NumPy serves: see `kernels/README.md` for what was measured."""

CHOSEN = threading.local()
"""Whose ``numpy`` is true of a thread that does small work."""


def in_numpy() -> bool:
    """True of a thread that does small work: the façades of compiled functions give it those of NumPy."""
    return getattr(CHOSEN, "numpy", False)


def is_small(products: float) -> bool:
    """Whether so many products are small work, unless `STREAMEM_SMALL_WORK` says that all of it is, or none.

    Raises
    ------
    ParameterError : the environment variable is set to anything else than "numpy" or "compiled"
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return products <= MOST_PRODUCTS
    if chosen not in CHOICES:
        raise ParameterError(
            f"the environment variable {VARIABLE} is {chosen!r}; it must be 'numpy' or 'compiled': correct it, or "
            "unset it and the size of the work decides"
        )
    return chosen == "numpy"


class Running:
    """``with Running(numpy):`` what is in it runs in NumPy, or compiled, whatever is around it."""

    def __init__(self, numpy: bool) -> None:
        self._numpy = numpy

    def __enter__(self) -> None:
        self._before = in_numpy()
        CHOSEN.numpy = self._numpy

    def __exit__(self, *_: object) -> None:
        CHOSEN.numpy = self._before


def small_work(products: float) -> Running:
    """``with small_work(products):`` what is in it runs in NumPy if it is small."""
    return Running(is_small(products))
