"""The compiled loops of `machine` that rooms without Numba call; Numba is imported at the first call, not before, and
not for small work.

Write `loops.normalize(...)` with `from streamem.core import loops`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamem.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from streamem.machine.finite import all_finite
    from streamem.machine.interleaved import interleave
    from streamem.machine.log_sum_exp import normalize
    from streamem.machine.row_major import columns, scaled

__all__ = [
    "all_finite",
    "columns",
    "interleave",
    "normalize",
    "scaled",
]

_HOMES = {
    "all_finite": "streamem.machine.finite",
    "interleave": "streamem.machine.interleaved",
    "normalize": "streamem.machine.log_sum_exp",
    "columns": "streamem.machine.row_major",
    "scaled": "streamem.machine.row_major",
}

_HOMES_OF_SMALL = dict.fromkeys(("normalize", "columns", "scaled"), "streamem.machine.plain_loops")

if not TYPE_CHECKING:  # else every name would be known to the type checker
    __getattr__ = lazy_names(__name__, _HOMES, _HOMES_OF_SMALL)
