"""Rows in which something was observed, and starts of components that would see a column nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.models.steps import missing_rows

Array = NDArray[Any]

BORROWED = 2.0**-10
"""Share of a component's responsibilities that is spread over the rows in which it sees a column, where its own rows
hold none: the column then starts as that of all rows, and the others hardly move."""


def observed(chunk: Chunk) -> Chunk:
    """The rows of independent ones that hold a value, with their weights; the chunk itself where all do."""
    missing = missing_rows(chunk.x)
    if missing is None:
        return chunk
    kept = ~missing
    return Chunk(chunk.x[kept], None if chunk.weight is None else chunk.weight[kept], covariates=chunk.beside(kept))


def covered(x: Array, resp: Array) -> Array:
    """Responsibilities (n, K) to start from, such that every component sees each column of x (n, d) somewhere.

    A component that was given rows without a value in some column takes a little of all rows with one; those that were
    given nothing stay empty. Columns without any value are nobody's.
    """
    present = ~np.isnan(x)
    if present.all():
        return resp
    seen = resp.T @ present > 0  # (K, d)
    lacking = ~seen & present.any(axis=0) & (resp.sum(axis=0) > 0)[:, None]
    if not lacking.any():
        return resp
    resp = resp.copy()
    for component, column in np.argwhere(lacking):
        rows = present[:, column]
        resp[rows, component] += BORROWED * resp[:, component].sum() / rows.sum()
    return resp
