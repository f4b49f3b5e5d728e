"""Which values a family can emit: sets of numbers that compiled code checks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.errors import ImpossibleValueError
from streamem.kernels.features.features import as_rows

Array = NDArray[Any]


class Support(NamedTuple):
    """Numbers from `least` up to, and without, `end`.

    Attributes
    ----------
    least, end : bounds
    is_open : whether `least` itself does not belong to the set
    whole : whether only whole numbers do
    """

    least: float = -np.inf
    end: float = np.inf
    is_open: bool = False
    whole: bool = False


REALS = Support()
POSITIVE = Support(0.0, is_open=True)
NOT_NEGATIVE = Support(0.0)
UNIT_INTERVAL = Support(0.0, 1.0, is_open=True)
COUNTS = Support(0.0, whole=True)
TRIALS = Support(1.0, whole=True)


def require_within(x: Array, support: Support, needed: str) -> None:
    """Refuse rows x (n, d) with values that do not belong to a set; NaN is let through.

    Raises
    ------
    ImpossibleValueError : the first such value, with what is `needed`
    """
    if support == REALS:
        return
    bad = kernels.first_outside(as_rows(x), support.least, support.is_open, support.end, support.whole)
    if bad >= 0:
        raise ImpossibleValueError(float(x.flat[bad]), bad % x.shape[1], needed)
