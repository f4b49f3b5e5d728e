"""k-means and its starts of rows in which values are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from streamem.initialization import STARTS
from streamem.initialization.partly_observed import PartlyObserved, lloyd, spread_rows
from streamem.models.observed import covered

Array = NDArray[Any]


def clusters(share: float, seed: int = 0) -> tuple[Array, Array]:
    """Rows (300, 5) of three clusters far apart, with values taken away, and their clusters (300,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=300)
    x = rng.normal(size=(300, 5)) + 20.0 * labels[:, None]
    x[rng.uniform(size=x.shape) < share] = np.nan
    unseen = np.isnan(x).all(axis=1)
    x[unseen, 0] = 20.0 * labels[unseen]
    return x, labels


def partition(labels: Array) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_clusters_are_found_through_gaps(scale: float, dtype: Any) -> None:
    x, labels = clusters(0.4)
    if dtype == np.float32 and scale != 1.0:
        scale = scale ** (1 / 8)
    found = STARTS["kmeans"]((x * scale).astype(dtype), None, 3, np.random.RandomState(0))
    assert partition(found.argmax(axis=1)) == partition(labels)


def test_without_gaps_it_is_k_means() -> None:
    x, _ = clusters(0.0)
    weight = np.random.default_rng(1).uniform(0.1, 2.0, len(x))
    rows = PartlyObserved(x, weight)
    known = KMeans(3, n_init=1, random_state=0).fit(x, sample_weight=weight)
    assert partition(lloyd(rows, 3, np.random.RandomState(0))) == partition(known.labels_)
    for block, far in rows.distances((known.cluster_centers_ - weight @ x / weight.sum()) / np.abs(x).max()):
        expected = ((x[block][:, None] - known.cluster_centers_) ** 2).sum(axis=2) / np.abs(x).max() ** 2
        np.testing.assert_allclose(far, expected, atol=1e-12)


def test_each_sweep_lowers_the_distances_to_what_was_observed() -> None:
    x, _ = clusters(0.5, seed=3)
    rows, centres = PartlyObserved(x, None), np.random.default_rng(0).normal(size=(4, 5))
    totals = []
    for _ in range(8):
        labels, _ = rows.nearest(centres)
        centres = rows.means(labels, centres)
        gaps = (x / np.nanmax(np.abs(x)) - np.nanmean(x / np.nanmax(np.abs(x)), axis=0)) - centres[labels]
        totals.append(np.nansum(gaps**2))
    assert (np.diff(totals) <= 1e-12).all()


def test_rows_of_weight_0_are_never_chosen() -> None:
    x, _ = clusters(0.3)
    weight = np.zeros(len(x))
    weight[10:14] = 1.0
    chosen = spread_rows(PartlyObserved(x, weight), 4, np.random.RandomState(0))
    assert sorted(chosen) == [10, 11, 12, 13]


def test_equal_rows_leave_no_cluster_empty() -> None:
    x = np.array([[1.0, np.nan]] * 5)
    labels = lloyd(PartlyObserved(x, None), 3, np.random.RandomState(0))
    assert set(labels) == {0, 1, 2}


def test_every_component_sees_every_column() -> None:
    x = np.array([[1.0, np.nan, np.nan], [np.nan, 2.0, np.nan], [3.0, 4.0, np.nan]])
    resp = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = covered(x, resp)
    seen = found.T @ ~np.isnan(x) > 0
    assert seen[:2, :2].all()
    assert not found[:, 2].any()
    np.testing.assert_allclose(found.sum(axis=0)[:2], 1.0, rtol=2e-3)
    complete = np.nan_to_num(x)
    assert covered(complete, resp) is resp
