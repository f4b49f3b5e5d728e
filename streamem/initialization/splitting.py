"""Split and merge: two components that overlap become one, and one that covers several clusters two (SMEM).

After Ueda, Nakano, Ghahramani & Hinton 2000, on a sample, with other criteria. A split of component k in two (a, b)
gains at least Σ_n w_n r_nk log((w_a p_a + w_b p_b) / (w_k p_k)), since log is concave: two components are fitted to the
rows of k for that. A merger loses at most Q_i + Q_j − Q_ij (`merging.py`). Exchanges that promise most are tried by EM
of all components; one is kept only if the objective rises above that of EM without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, NumericalError
from streamem.initialization.merging import Merged, Mixtures, costs_of_mergers, of_responsibilities
from streamem.initialization.responsibilities import Start

Array = NDArray[np.float64]

BEFORE, AFTER = 30, 20
"""Iterations of EM before the first exchange, and after each."""
LOCAL, TRIES = 10, 3
"""Iterations of EM of two components on the rows of one, and how often they begin anew."""
CANDIDATES = 5
"""Exchanges that are tried before there is none to be found."""
LEAST_SHARE = 1e-3
"""Of a row that belongs to a component: rows of less are left out where it is split."""
ENOUGH = 4
"""Times d + 1 rows of a component that are not few: an exchange must not make more components of few."""
RISE = 1e-6
"""Nats per unit of weight by which the objective has to rise."""

FAILURES = DataError, NumericalError


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What is left when no exchange raises the objective, and how many were made."""

    found: Merged
    exchanges: int


@dataclass(frozen=True, eq=False)
class _Exchange:
    """Components i and j become i, and k becomes k and j; `share` (n,) of the rows of k stays with k."""

    promise: float
    into: int
    gone: int
    split: int
    share: Array


def split_and_merged(
    mixture: Mixtures, whole: Start, halves: Start, sample: Chunk, k: int, rng: np.random.RandomState
) -> Exchanged:
    """The components of a start after exchanges, at most two for each component; none of fewer than three components.

    Parameters
    ----------
    whole : the start of all components
    halves : that of two components on the rows of one
    sample : every row holds a value

    Raises
    ------
    DegenerateDataError, NumericalError : as of any start
    """
    begun = of_responsibilities(mixture, sample, whole(sample.x, sample.weight, k, rng), rng)
    found, made, most = begun.improved(sample, BEFORE), 0, 2 * k if k > 2 else 0
    while made < most and (better := _exchanged(mixture, halves, found, sample, rng)) is not None:
        found, made = better, made + 1
    return Exchanged(found, made)


def _exchanged(
    mixture: Mixtures, halves: Start, found: Merged, sample: Chunk, rng: np.random.RandomState
) -> Merged | None:
    """The first exchange, of those that promise most, that raises the objective."""
    resp = found.split(sample.x, sample.weight, 0, rng)
    try:
        kept = found.improved(sample, AFTER)
    except FAILURES:
        return None
    least, most = _height(kept, sample) + RISE, _doubtful(kept, sample)
    for exchange in _promising(mixture, halves, found, sample, resp, rng):
        new = resp.copy()
        new[:, exchange.into] += new[:, exchange.gone]
        new[:, exchange.gone] = new[:, exchange.split] * (1.0 - exchange.share)
        new[:, exchange.split] *= exchange.share
        try:
            tried = of_responsibilities(mixture, sample, new, rng).improved(sample, AFTER)
            height, doubtful = _height(tried, sample), _doubtful(tried, sample)
        except FAILURES:
            continue
        if height > least and doubtful <= most:
            return tried
    return None


def _promising(
    mixture: Mixtures, halves: Start, found: Merged, sample: Chunk, resp: Array, rng: np.random.RandomState
) -> list[_Exchange]:
    """Exchanges of three different components, those of the largest bound on what they gain first."""
    splits = [_halved(mixture, halves, found, sample, resp, k, rng) for k in range(resp.shape[1])]
    return sorted(
        (
            _Exchange(gain - cost, i, j, k, share)
            for (i, j), cost in costs_of_mergers(mixture, found, sample, resp, rng)
            for k, (gain, share) in enumerate(splits)
            if k not in (i, j) and np.isfinite(gain - cost)
        ),
        key=lambda exchange: -exchange.promise,
    )[:CANDIDATES]


def _halved(
    mixture: Mixtures,
    halves: Start,
    found: Merged,
    sample: Chunk,
    resp: Array,
    k: int,
    rng: np.random.RandomState,
) -> tuple[float, Array]:
    """What a split of component k gains at least, in nats, and the share (n,) of each row that stays."""
    rows = resp[:, k] > LEAST_SHARE
    weight = resp[rows, k] if sample.weight is None else resp[rows, k] * sample.weight[rows]
    own, best, share = Chunk(sample.x[rows], weight), -np.inf, np.full(len(resp), 0.5)
    alone = float(weight @ found.model.family.log_prob(found.params.components, own.x)[:, k]) if own.rows else np.inf
    for _ in range(TRIES):
        try:
            two = of_responsibilities(mixture, own, halves(own.x, own.weight, 2, rng), rng).improved(own, LOCAL)
            reached = float(two.model.e_step(two.params, own).log_likelihood)
        except FAILURES:
            continue
        if reached - alone > best:
            best, share[rows] = reached - alone, two.split(own.x, own.weight, 2, rng)[:, 0]
    return best, share


def _height(found: Merged, sample: Chunk) -> float:
    """What EM maximizes, in nats per unit of weight."""
    stats = found.model.e_step(found.params, sample)
    return (float(stats.log_likelihood) - float(found.model.penalty(found.params, stats))) / _weight(sample)


def _doubtful(found: Merged, sample: Chunk) -> int:
    """Components of which the likelihood may rise without bound: of few rows, and of rows that agree in a column."""
    held = np.asarray(found.model.shares(found.params)) * _weight(sample)
    few = np.flatnonzero(held < ENOUGH * (sample.x.shape[1] + 1))
    return len({int(k) for k in few}.union(*found.model.degenerate(found.params).values()))


def _weight(sample: Chunk) -> float:
    return sample.rows if sample.weight is None else float(sample.weight.sum())
