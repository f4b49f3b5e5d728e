"""A start for regressions: a few rows of each component, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError

Array = NDArray[Any]

ROWS_A_COLUMN = 3


def from_few_rows(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Three rows a column for each component (n, K), drawn without replacement; all others belong to none.

    Rows near each other say little of the line they lie on, and labels of all rows at random say the same of every
    component; few rows differ, and one of several such starts is near each maximum.

    Raises
    ------
    DataError : fewer rows that count than components
    """
    counted = np.flatnonzero(~np.isnan(x).any(axis=1) & (True if weight is None else np.asarray(weight) > 0))
    if len(counted) < k:
        raise DataError(f"only {len(counted)} of the sampled rows have all values and a weight > 0, for {k} components")
    each = min(len(counted) // k, ROWS_A_COLUMN * x.shape[1])
    rows = rng.choice(counted, size=k * each, replace=False)
    resp = np.zeros((len(x), k))
    resp[rows, np.repeat(np.arange(k), each)] = 1.0
    return resp
