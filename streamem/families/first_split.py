"""A first split of rows into parts, so that components which begin alike do not stay alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def split_rows(x: Array, weight: Array, n_parts: int) -> Array:
    """Labels (n,) of `n_parts` groups of equal weight, by rank along the first principal direction of standardized x.

    Deterministic. Ranks rather than values: groups differ even where half of the rows are equal. A value that was not
    observed (NaN) counts as the mean of its column.
    """
    total = float(weight.sum())
    if n_parts == 1 or not total > 0:
        return np.zeros(len(x), dtype=np.intp)
    if (absent := np.isnan(x)).any():
        present = weight @ ~absent
        means = weight @ np.where(absent, 0.0, x) / np.where(present > 0, present, 1.0)
        x = np.where(absent, means, x)
    centered = x - weight @ x / total
    spread = np.sqrt(weight @ centered**2 / total)
    centered = np.divide(centered, spread, out=np.zeros_like(centered), where=spread > 0)
    direction = np.linalg.eigh((centered * weight[:, None]).T @ centered)[1][:, -1]
    # The sign of an eigenvector is arbitrary.
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    order = np.argsort(centered @ direction, kind="stable")
    passed = np.cumsum(weight[order]) - weight[order] / 2
    labels = np.empty(len(x), dtype=np.intp)
    labels[order] = np.clip(np.floor(n_parts * passed / total), 0, n_parts - 1)
    return labels
