"""What families of independent columns share: values that were not observed drop their factor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.ports import FullFamily
from streamem.core.stats import Stats

Array = NDArray[Any]


def column_weights(stats: Stats, like: Array) -> Array:
    """Weight of the observed values of every component and column, shaped as `like` (K, d, …): (K, d)."""
    if "observed" in stats:
        return np.asarray(stats.observed)
    return np.broadcast_to(np.asarray(stats.weight)[:, None], like.shape[:2])


def with_rows(stats: Stats, name: str, rows: Array, sums: Array) -> Stats:
    """Statistics with so many pseudo-rows (K, d) of these sums, in the shape of the statistic of that name."""
    seen = column_weights(stats, stats[name]) + rows
    weight = stats.weight + np.max(np.broadcast_to(rows, seen.shape), axis=1)
    return stats.replace(**{"weight": weight, "observed": seen, name: stats[name] + sums})


def without_holes(x: Array) -> Array:
    """Rows with 0 instead of NaN."""
    return np.where(np.isnan(x), 0.0, x)


def filled_by_means(x: Array, means: Array, resp: Array) -> Array:
    """Rows x (n, d) with means (K, d), mixed by resp (n, K), instead of NaN."""
    return np.where(np.isnan(x), resp @ means, x)


def filled_by_draws(
    family: FullFamily, params: Params, x: Array, component: Array, rng: np.random.RandomState
) -> Array:
    """Rows x (n, d) with values that each row's component (n,) emits instead of NaN."""
    out = np.array(x, dtype=np.float64)
    for k in np.unique(component):
        rows = np.flatnonzero((component == k) & np.isnan(out).any(axis=1))
        drawn = family.draw(params, int(k), len(rows), rng)
        out[rows] = np.where(np.isnan(out[rows]), drawn, out[rows])
    return out


def weighted_moments(x: Array, weight: Array | None) -> tuple[Array, Array]:
    """Means and variances (d,) of what was observed in rows x (n, d) of weight (n,); 0 where nothing was."""
    seen = ~np.isnan(x)
    rows = seen * (1.0 if weight is None else np.asarray(weight)[:, None])
    total = np.maximum(rows.sum(axis=0), np.finfo(np.float64).tiny)
    values = np.where(seen, x, 0.0).astype(np.float64)
    means = (rows * values).sum(axis=0) / total
    return means, (rows * (values - means) ** 2).sum(axis=0) / total
