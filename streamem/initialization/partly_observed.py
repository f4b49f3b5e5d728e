"""k-means of rows in which values are missing: distances over what was observed, centres that are means of it.

Squared distances of a row of d columns, m of them observed, are d / m times the sum over these: as if the others were
as far away (Dixon 1979). To the nearest centre the factor is the same for all, so that each sweep lowers the sum over
what was observed: k-POD (Chi, Chi & Baraniuk 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_SWEEPS = 300
BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Frame:
    """Where centres lie: values of columns are divided by `scale`, then taken from `middle` (d,)."""

    scale: float
    middle: Array

    @classmethod
    def of_centres(cls, n_features: int) -> Frame:
        """The frame of rows that are centres already."""
        return cls(1.0, np.zeros(n_features))

    def centres(self, rows: Array) -> Array:
        """Rows (m, d) as centres; where one has no value, the mean of the column, which is 0 here."""
        value = rows.astype(np.float64) / self.scale - self.middle
        return np.where(np.isnan(value), 0.0, value)


class PartlyObserved:
    """Rows x (n, d) with NaN, and their weights (n,): the distances that a start needs, by blocks of rows.

    Values are taken from the mean of their column and divided by the largest, so that squares neither overflow nor
    vanish; no label depends on either. A `frame` that is given takes the place of both.
    """

    def __init__(
        self, x: Array, weight: Array | None, frame: Frame | None = None, block_rows: int = BLOCK_ROWS
    ) -> None:
        self.x, self.weight = x, np.ones(len(x)) if weight is None else weight
        self._block_rows = block_rows
        if frame is not None:
            self._scale, self._middle = frame.scale, frame.middle
            return
        with np.errstate(over="ignore"):
            largest = np.fmax.reduce(np.abs(x), axis=None, initial=0.0, dtype=np.float64)
        self._scale = float(largest) if largest > 0 else 1.0
        total, seen = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        for _, values, present, counted in self._blocks(np.zeros(x.shape[1])):
            total, seen = total + counted @ values, seen + counted @ present
        self._middle = np.divide(total, seen, out=np.zeros_like(total), where=seen > 0)

    @property
    def frame(self) -> Frame:
        """Where centres lie."""
        return Frame(self._scale, self._middle)

    def centre(self, row: int) -> Array:
        """(d,) a row as a centre; where it has no value, the mean of the column, which is 0 here."""
        value = self.x[row] / self._scale - self._middle
        return np.where(np.isnan(value), 0.0, value)

    def distances(self, centres: Array) -> Iterator[tuple[slice, Array]]:
        """For every block of rows, squared distances (b, K) to centres (K, d)."""
        for block, values, present, _ in self._blocks(self._middle):
            known = present.sum(axis=1)
            far = (values**2).sum(axis=1)[:, None] - 2 * values @ centres.T + present @ (centres**2).T
            yield block, np.maximum(far, 0.0) * (self.x.shape[1] / np.maximum(known, 1.0))[:, None]

    def nearest(self, centres: Array) -> tuple[Array, Array]:
        """The nearest centre of every row (n,), and its squared distance (n,)."""
        labels, least = np.empty(len(self.x), dtype=np.int64), np.empty(len(self.x))
        for block, far in self.distances(centres):
            labels[block] = far.argmin(axis=1)
            least[block] = far.min(axis=1)
        return labels, least

    def means(self, labels: Array, centres: Array) -> Array:
        """Means (K, d) of what was observed of each cluster; a centre that sees no value of a column keeps its own."""
        k, d = centres.shape
        total, seen = np.zeros((k, d)), np.zeros((k, d))
        for block, values, present, counted in self._blocks(self._middle):
            member = (labels[block][:, None] == np.arange(k)) * counted[:, None]
            total, seen = total + member.T @ values, seen + member.T @ present
        return np.divide(total, seen, out=centres.copy(), where=seen > 0)

    def _blocks(self, middle: Array) -> Iterator[tuple[slice, Array, Array, Array]]:
        """Rows of a block, their values about `middle` (missing ones 0), which are present (1 or 0), and weights."""
        for first in range(0, len(self.x), self._block_rows):
            block = slice(first, min(first + self._block_rows, len(self.x)))
            values = self.x[block].astype(np.float64) / self._scale - middle
            present = ~np.isnan(values)
            values[~present] = 0.0
            yield block, values, present.astype(np.float64), self.weight[block]


def spread_rows(rows: PartlyObserved, k: int, rng: np.random.RandomState) -> Array:
    """K rows (K,) chosen by k-means++ (Arthur & Vassilvitskii 2007), the best of 2 + log K candidates each time."""
    candidates = 2 + int(np.log(k))
    chosen = [int(rng.choice(len(rows.x), p=shares(rows.weight)))]
    least = rows.nearest(rows.centre(chosen[0])[None])[1]
    while len(chosen) < k:
        chances = least * rows.weight
        drawn = rng.choice(len(rows.x), size=candidates, p=shares(chances if chances.sum() > 0 else rows.weight))
        after = [np.minimum(least, rows.nearest(rows.centre(int(row))[None])[1]) for row in drawn]
        best = int(np.argmin([float(rows.weight @ far) for far in after]))
        chosen.append(int(drawn[best]))
        least = after[best]
    return np.array(chosen)


def lloyd(rows: PartlyObserved, k: int, rng: np.random.RandomState) -> Array:
    """Labels (n,) of k-means, from K rows of k-means++ until no label changes."""
    centres = np.stack([rows.centre(int(row)) for row in spread_rows(rows, k, rng)])
    labels, least = rows.nearest(centres)
    for _ in range(MOST_SWEEPS):
        labels = refilled(labels, least * rows.weight, k)
        centres = rows.means(labels, centres)
        before = labels
        labels, least = rows.nearest(centres)
        if np.array_equal(labels, before):
            break
    return refilled(labels, least * rows.weight, k)


def refilled(labels: Array, far: Array, k: int) -> Array:
    """Labels with the farthest rows given to clusters that have none."""
    sizes = np.bincount(labels, minlength=k)
    if (sizes > 0).all():
        return labels
    labels, order = labels.copy(), iter(np.argsort(-far, kind="stable").tolist())
    for empty in np.flatnonzero(sizes == 0):
        row = next((row for row in order if sizes[labels[row]] > 1), None)
        if row is None:
            break
        sizes[labels[row]] -= 1
        labels[row], sizes[empty] = empty, 1
    return labels


def shares(values: Array) -> Array:
    """Numbers as probabilities."""
    return np.asarray(values / values.sum())
