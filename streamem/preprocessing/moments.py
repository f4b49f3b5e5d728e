"""First and second moments of rows: exact sums about their own mean, joined in the order of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, PassTask
from streamem.core.validation import require_finite

Array = NDArray[Any]
BLOCK_ROWS = 4096
"""Rows that are turned into float64 at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of a set of rows.

    Attributes
    ----------
    weight : (d,) sum of the weights of the values that were observed in each column
    mean : (d,)
    scatter : (d,) sums of weighted squared deviations from the mean, or (d, d) of products
    rows : sum of the weights of rows
    """

    weight: Array
    mean: Array
    scatter: Array
    rows: float

    @classmethod
    def nothing(cls, d: int, products: bool) -> Moments:
        """Moments of no rows."""
        return cls(np.zeros(d), np.zeros(d), np.zeros((d, d) if products else d), 0.0)

    def joined(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        weight = self.weight + other.weight
        share = np.divide(other.weight, weight, out=np.zeros_like(weight), where=weight > 0)
        shift = other.mean - self.mean
        moved = self.weight * share  # of each column n_a n_b / (n_a + n_b)
        if self.scatter.ndim == 2:
            root = np.sqrt(moved) * shift
            between = np.outer(root, root)
        else:
            between = moved * shift**2
        return Moments(
            weight, self.mean + share * shift, self.scatter + other.scatter + between, self.rows + other.rows
        )


def moments_of(x: Array, weight: Array | None, products: bool) -> Moments:
    """Moments of rows in memory, float64; NaN is a value that was not observed, of which products know none."""
    total, d = Moments.nothing(x.shape[1], products), x.shape[1]
    for block, own in _blocks(x, weight):
        if products:
            weights = np.full(d, own.sum())
            mean = own @ block / weights[0] if weights[0] > 0 else np.zeros(d)
            centred = block - mean
            scatter = (centred * own[:, None]).T @ centred
        elif not np.isnan(block).any():
            weights = np.full(d, own.sum())
            mean = own @ block / weights[0] if weights[0] > 0 else np.zeros(d)
            centred = block - mean
            left = (own @ centred) ** 2 / weights[0] if weights[0] > 0 else np.zeros(d)
            scatter = own @ centred**2 - left
        else:
            seen = own[:, None] * ~np.isnan(block)
            weights = seen.sum(axis=0)
            filled = np.nan_to_num(block, nan=0.0)
            mean = np.divide((seen * filled).sum(axis=0), weights, out=np.zeros(d), where=weights > 0)
            centred = filled - mean
            left = np.divide((seen * centred).sum(axis=0) ** 2, weights, out=np.zeros(d), where=weights > 0)
            scatter = (seen * centred**2).sum(axis=0) - left  # rounding of the mean is taken out again
        total = total.joined(Moments(weights, mean, scatter, float(own.sum())))
    return total


def _blocks(x: Array, weight: Array | None) -> Iterator[tuple[Array, Array]]:
    for first in range(0, len(x), BLOCK_ROWS):
        block = np.asarray(x[first : first + BLOCK_ROWS], dtype=np.float64)
        yield block, np.ones(len(block)) if weight is None else weight[first : first + BLOCK_ROWS]


@dataclass(frozen=True, eq=False)
class TakeMoments(PassTask[Moments]):
    """The task that finds the moments of each chunk; `products` says of pairs of columns too."""

    names: tuple[str, ...] | None
    products: bool

    @property
    def missing(self) -> Missing:
        """What may be NaN."""
        return Missing.NEVER if self.products else Missing.VALUES

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Moments:
        """Moments of a chunk.

        Raises
        ------
        NonFiniteError : infinity, or NaN where products are asked for
        """
        require_finite(chunk, ref, self.names, self.missing)
        return moments_of(chunk.x, chunk.weight, self.products)
