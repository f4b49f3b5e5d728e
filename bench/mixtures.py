"""Rows of a Gaussian mixture with random covariances, and a start some way off; needs NumPy alone, as peers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw(n: int, d: int, k: int, separation: float, dtype: str) -> tuple[Any, Any]:
    """Rows (n, d) of k components whose means lie `separation` apart per axis, and means to start from (k, d)."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(k, d)) * separation
    shapes = rng.normal(size=(k, d, d)) / np.sqrt(d)
    labels = rng.integers(k, size=n)
    x = np.empty((n, d), dtype=dtype)
    for j in range(k):
        rows = np.flatnonzero(labels == j)
        noise = np.sqrt(0.1) * rng.normal(size=(len(rows), d))
        x[rows] = means[j] + rng.normal(size=(len(rows), d)) @ shapes[j].T + noise
    return x, means + 0.1 * rng.normal(size=(k, d))


def store(folder: Path, n: int, d: int, k: int, separation: float, dtype: str) -> None:
    """x.npy and means.npy."""
    x, means = draw(n, d, k, separation, dtype)
    np.save(folder / "x.npy", x)
    np.save(folder / "means.npy", means)
