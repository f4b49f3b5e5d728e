"""Components that explain nothing, and which of them there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params

Array = NDArray[Any]

EMPTY_FRACTION = 1e-12
"""A component that explains less than this fraction of all rows is empty: it keeps its parameters."""


def empty_components(weight: Array) -> Array:
    """Which of the components (K,) of given summed responsibilities are empty."""
    return np.asarray(~(weight > EMPTY_FRACTION * weight.sum()))


def told_empty(params: Params) -> Mapping[str, list[int]]:
    """For `Diagnosed`: the components that the last M-step left as they were."""
    return {"empty": np.flatnonzero(params.get("empty", False)).tolist()}
