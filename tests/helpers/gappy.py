"""A user's family that reads NaN as not observed: normal columns, independent within a component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import Params, Stats

Array = NDArray[Any]


class GappyNormal:
    """Three functions and what imputing needs; not a part of the library."""

    allows_missing = True

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """Mean and variance of what was observed of each column."""
        mean, variance = np.nanmean(x, axis=0), np.nanvar(x, axis=0)
        return Params(means=np.tile(mean, (n_components, 1)), variances=np.tile(variance, (n_components, 1)))

    def log_prob(self, params: Any, x: Array) -> Array:
        """Of the values that are there."""
        z = (x[:, None, :] - params.means) ** 2 / params.variances + np.log(2 * np.pi * params.variances)
        return np.asarray(np.where(np.isnan(x)[:, None, :], 0.0, -0.5 * z).sum(axis=2))

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """Counts and sums of each column by itself."""
        there = ~np.isnan(x)
        values = np.where(there, x, 0.0)
        return Stats(weight=resp.T @ there, sums=resp.T @ values, squares=resp.T @ values**2)

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """Weighted means and variances; a column that nobody saw stays."""
        seen, safe = stats.weight > 0, np.maximum(stats.weight, 1e-300)
        means = np.where(seen, stats.sums / safe, previous.means)
        variances = np.where(seen, stats.squares / safe - means**2, previous.variances)
        return Params(means=means, variances=np.maximum(variances, 1e-9))

    def filled(self, params: Any, x: Array, resp: Array) -> Array:
        """Columns are independent: the mean of each component."""
        return np.asarray(np.where(np.isnan(x), resp @ params.means, x))

    def drawn_for_missing(self, params: Any, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Normal draws."""
        noise = rng.normal(size=x.shape) * np.sqrt(params.variances[component])
        return np.asarray(np.where(np.isnan(x), params.means[component] + noise, x))
