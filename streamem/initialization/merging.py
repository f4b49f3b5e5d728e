"""A start of more components than asked for, of which the pair that costs the least is merged until K are left.

A merger of components i and j costs Q_i + Q_j − Q_ij nats, where Q = Σ_n w_n r_n (log π + log p(x_n)) is the expected
log-likelihood of the rows that belong to a component, and Q_ij that of one component with the responsibilities of both
(the loss of Hennig 2010, §3, in expectation). Only pairs that overlap most are weighed up: those of the largest
Σ_n r_ni r_nj / √(Σ r²_ni Σ r²_nj), the normalized Gram matrix of the responsibilities (arXiv 2506.06584).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.initialization.responsibilities import Start

Array = NDArray[Any]

TIMES = 3
"""Components to begin with, for each that is asked for."""
ITERATIONS, BETWEEN = 30, 5
"""Of EM before the first merger, and after each."""
PAIRS = 32
"""Pairs that are weighed up."""
RESPONSIBILITIES = 2**22
"""Of all rows and components: 32 MiB, which bounds the rows."""

Mixtures = Callable[[int, Start], Any]
"""From a number of components and their start, the mixture model of rows (`streamem.models.Mixture`) of the family."""


@dataclass(frozen=True, eq=False)
class Merged:
    """A mixture model with parameters, from which responsibilities of any rows follow: a `Start`."""

    model: Any
    params: Params

    def split(self, x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
        """Responsibilities (n, K)."""
        return np.asarray(self.model.responsibilities(self.params, Chunk(x, weight)))

    def improved(self, chunk: Chunk, iterations: int) -> Merged:
        """After iterations of EM."""
        params = self.params
        for _ in range(iterations):
            params = self.model.m_step(self.model.e_step(params, chunk), params)
        return Merged(self.model, params)


def most_rows(k: int) -> int:
    """Rows that are enough to merge down to K components, at most."""
    return RESPONSIBILITIES // (TIMES * k)


def merged_down(mixture: Mixtures, begin: Start, sample: Chunk, k: int, rng: np.random.RandomState) -> Merged:
    """What is left of `TIMES` · K components that EM has fitted to the sample, its rows independent.

    Parameters
    ----------
    begin : the start of the many components
    sample : every row holds a value

    Raises
    ------
    DegenerateDataError, NumericalError : as of any start
    """
    many = max(k, min(TIMES * k, sample.rows // 2))
    found = _maximized(mixture(many, begin), sample, rng).improved(sample, ITERATIONS)
    for left in range(many - 1, k - 1, -1):
        resp = found.split(sample.x, sample.weight, left + 1, rng)
        (into, gone), _ = min(costs_of_mergers(mixture, found, sample, resp, rng), key=lambda pair: pair[1])
        resp[:, into] += resp[:, gone]
        found = of_responsibilities(mixture, sample, np.delete(resp, gone, axis=1), rng).improved(sample, BETWEEN)
    return found


def costs_of_mergers(
    mixture: Mixtures, found: Merged, sample: Chunk, resp: Array, rng: np.random.RandomState
) -> list[tuple[tuple[int, int], float]]:
    """Pairs that overlap most, and what their mergers cost in nats; infinite where nobody can say."""
    pairs = _overlapping(resp, sample.weight)
    joined = np.stack([resp[:, i] + resp[:, j] for i, j in pairs], axis=1)
    together = _expected(of_responsibilities(mixture, sample, joined, rng), sample, joined)
    own = _expected(found, sample, resp)
    costs = np.array([own[i] + own[j] for i, j in pairs]) - together
    return list(zip(pairs, np.where(np.isfinite(costs), costs, np.inf).tolist(), strict=True))


def _overlapping(resp: Array, weight: Array | None) -> list[tuple[int, int]]:
    """The pairs of components that overlap most; a component without rows overlaps with all."""
    weighed, k = resp if weight is None else resp * weight[:, None], resp.shape[1]
    gram = resp.T @ weighed
    size = np.sqrt(np.diag(gram))
    score = np.divide(gram, np.outer(size, size), out=np.ones_like(gram), where=np.outer(size, size) > 0)
    upper = np.array(np.triu_indices(k, 1)).T
    order = np.argsort(-score[upper[:, 0], upper[:, 1]], kind="stable")[:PAIRS]
    return [(int(i), int(j)) for i, j in upper[order]]


def _expected(found: Merged, sample: Chunk, resp: Array) -> Array:
    """Q (K,) of each component, in nats."""
    weighed = resp if sample.weight is None else resp * sample.weight[:, None]
    total = sample.rows if sample.weight is None else float(sample.weight.sum())
    share = np.maximum(weighed.sum(axis=0), np.finfo(np.float64).tiny) / total
    density = found.model.family.log_prob(found.params.components, sample.x) + np.log(share)
    return np.sum(np.where(weighed > 0, weighed * density, 0.0), axis=0)


def of_responsibilities(mixture: Mixtures, sample: Chunk, resp: Array, rng: np.random.RandomState) -> Merged:
    """The M-step from responsibilities (n, K) of the rows."""
    return _maximized(mixture(resp.shape[1], lambda x, weight, k, rng: resp), sample, rng)


def _maximized(model: Any, sample: Chunk, rng: np.random.RandomState) -> Merged:
    return Merged(model, model.init(sample, rng))
