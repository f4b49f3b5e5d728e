"""Responsibilities of a sample from which the first parameters are estimated, under scikit-learn's names.

All draw from a `numpy.random.RandomState` as scikit-learn does, so that the same seed on the same rows gives the same
start. In rows, NaN is a value that was not observed: distances are of those that were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError
from streamem.core.extremes import exponent_of
from streamem.core.row_keys import ordered_patterns
from streamem.initialization.partly_observed import PartlyObserved, lloyd, refilled, spread_rows
from streamem.machine.importing import uninterrupted

Array = NDArray[Any]
Start = Callable[[Array, Array | None, int, np.random.RandomState], Array]

FINE = 40
"""Bits of the largest square within which smaller ones still tell rows apart."""


def _one_hot(rows: Array, columns: Array, shape: tuple[int, int]) -> Array:
    resp = np.zeros(shape)
    resp[rows, columns] = 1.0
    return resp


def _within_range(x: Array, weight: Array | None) -> tuple[Array, Array | None]:
    """Rows and weights of whose weighted squares scikit-learn's sums neither overflow nor vanish, in the dtype of x.

    Powers of two are taken out, which changes no label; float32 gives way to float64, which holds more of one range.
    """
    weight = _near_one(weight)
    largest, range_of = exponent_of(x), np.finfo(x.dtype)
    if 2 * largest + int(x.size).bit_length() + 4 < range_of.maxexp and 2 * largest > range_of.minexp + FINE:
        return x, weight
    return np.ldexp(x.astype(np.float64), -largest), weight


def _near_one(weight: Array | None) -> Array | None:
    """Weights of which the largest lies in [1, 2)."""
    return None if weight is None else np.ldexp(weight, -exponent_of(weight))


def _is_partial(x: Array) -> bool:
    """Whether values are missing."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isnan(np.sum(x, dtype=np.float64)) and np.isnan(x).any())


def _require_rows(x: Array, k: int) -> None:
    """Refuse samples with fewer usable rows than components: an autoregression has fewer steps than rows."""
    if len(x) < k:
        raise DataError(
            f"only {len(x)} of the sampled rows have values in all columns, too few for {k} components; use fewer "
            "components or more rows"
        )


def from_kmeans(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Labels of one run of Lloyd's k-means (n, K), one-hot."""
    with uninterrupted("sklearn.cluster"):
        from sklearn.cluster import KMeans

    _require_rows(x, k)
    if _is_partial(x):
        labels = lloyd(PartlyObserved(x, _near_one(weight)), k, rng)
        return _one_hot(np.arange(len(x)), labels, (len(x), k))
    x, weight = _within_range(x, weight)
    labels = KMeans(n_clusters=k, n_init=1, random_state=rng).fit(x, sample_weight=weight).labels_
    return _one_hot(np.arange(len(x)), labels, (len(x), k))


def from_kmeans_plusplus(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """K rows chosen by k-means++ (Arthur & Vassilvitskii 2007), each alone in its component."""
    with uninterrupted("sklearn.cluster"):
        from sklearn.cluster import kmeans_plusplus

    _require_rows(x, k)
    if _is_partial(x):
        rows = spread_rows(PartlyObserved(x, _near_one(weight)), k, rng)
        return _one_hot(rows, np.arange(k), (len(x), k))
    x, weight = _within_range(x, weight)
    _, rows = kmeans_plusplus(x, k, sample_weight=weight, random_state=rng)
    return _one_hot(rows, np.arange(k), (len(x), k))


def from_random_rows(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """K rows drawn without replacement, each alone in its component."""
    _require_rows(x, k)
    chances = None if weight is None else weight / weight.sum()
    if weight is not None and (positive := int((weight > 0).sum())) < k:
        raise DataError(f"only {positive} of {len(x)} sampled rows have a weight > 0, too few for {k} components")
    rows = rng.choice(len(x), size=k, replace=False, p=chances)
    return _one_hot(rows, np.arange(k), (len(x), k))


def from_noise(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Uniform random numbers, normalized: every component starts near the overall mean."""
    resp: Array = np.asarray(rng.uniform(size=(len(x), k)), dtype=x.dtype)
    return np.asarray(resp / resp.sum(axis=1)[:, None], dtype=np.float64)


def from_patterns(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Equal rows of discrete data get the same responsibilities, drawn evenly from all that are possible.

    Noise for every row by itself averages out, so that all components would start alike.
    """
    count, which = ordered_patterns(x)
    return np.asarray(rng.dirichlet(np.ones(k), size=count)[which])


def from_cells(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Rows belong to the nearest of K rows, which are drawn without replacement: a coarse start of short runs."""
    _require_rows(x, k)
    rows = PartlyObserved(x, _near_one(weight))
    centres = np.stack([rows.centre(int(row)) for row in np.argmax(from_random_rows(x, weight, k, rng), axis=0)])
    labels, least = rows.nearest(centres)
    labels = refilled(labels, least * rows.weight, k)
    return _one_hot(np.arange(len(x)), labels, (len(x), k))


SHORT_EM = "short_em"
"""The start that is the best of short runs of EM, each begun by what this name has in the tables."""

PARALLEL = "k-means||"
"""The start from centres that passes over all rows have found; of a sample alone, what this name has in the table."""

MERGED = "merged_em"
"""The start of more components that are merged, begun by what this name has in the tables."""

SPLIT_MERGE = "split_merge"
"""The start in which components are split and merged, begun by what this name has in the tables."""

STARTS: dict[str, Start] = {
    "kmeans": from_kmeans,
    "k-means++": from_kmeans_plusplus,
    "random": from_noise,
    "random_from_data": from_random_rows,
    SHORT_EM: from_cells,
    MERGED: from_cells,
    SPLIT_MERGE: from_kmeans,
    PARALLEL: from_cells,
}

DISCRETE_STARTS: dict[str, Start] = {
    **{name: start for name, start in STARTS.items() if name != PARALLEL},
    "random": from_patterns,
    SHORT_EM: from_patterns,
    MERGED: from_patterns,
    SPLIT_MERGE: from_patterns,
}
"""For families of discrete values, whose codes have no distances."""
