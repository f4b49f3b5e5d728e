"""The filter of a linear Gaussian chain over its steps: states given the steps up to theirs (Kalman 1960)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.models.gaussian_messages import Reach
from streamem.models.gaussian_observations import Observations, observations
from streamem.models.gaussian_pass import Chain
from streamem.models.steps import Steps

Array = NDArray[Any]

WINDOWS = (512, 4096)
"""Rows at either end of a piece that are tried, before all of it: a state mostly forgets within some hundred steps."""


def reach_after(chain: Chain, seen: Observations, begin: int, stop: int, entering: Reach) -> Reach:
    """The state at the last of some steps, given that before the first."""
    k = len(chain.a)
    none = np.zeros((0, k)), np.zeros((0, k, k))
    return _filtered_into(chain, seen, begin, stop, entering, *none, np.empty(len(seen.z)))


def forgetful(chain: Chain, components: Params, anchor: Array, x: Array, last: bool) -> Reach | None:
    """The `Reach` over the first or last of rows x, where its last state no longer depends on the one before them.

    Of the first rows it holds all that x tells of the state before it; of the last rows, the state at the last one.
    None where too many rows would be needed.
    """
    for rows in WINDOWS:
        if 2 * rows > len(x):
            return None
        found = _alone(chain, components, anchor, x[-rows:] if last else x[:rows])
        if not found.depends:
            return found
    return None


def _alone(chain: Chain, components: Params, anchor: Array, x: Array) -> Reach:
    k = len(chain.a)
    entering = Reach.of(np.eye(k), np.zeros((k, k)), np.zeros(k)).ahead(chain.a, chain.noise)
    return reach_after(chain, observations(components, anchor, x), 0, len(x), entering)


def filtered(
    chain: Chain,
    seen: Observations,
    message: Boundary,
    steps: Steps,
    means: Array | None,
    covariances: Array | None,
    heights: Array | None,
) -> Iterator[tuple[int, Reach]]:
    """Every sequence that has steps, and where it ends; fills means, covariances and log-densities of steps."""
    k = len(chain.a)
    means = np.zeros((0, k)) if means is None else means
    covariances = np.zeros((0, k, k)) if covariances is None else covariances
    own = np.empty(len(seen.z))
    for s, (begin, stop) in enumerate(steps.spans.tolist()):
        reach = chain.start
        if s == 0 and message.before is not None:
            before = Reach.unpacked(message.before, k)
            known = before.resolved() if before.depends else None
            reach = (before if known is None else known[0]).ahead(chain.a, chain.noise)
        first = begin
        while reach.depends and first < stop:
            entering = reach if first == begin else reach.ahead(chain.a, chain.noise)
            reach = _filtered_into(chain, seen, first, first + 1, entering, means[:0], covariances[:0], own)
            known = reach.resolved()
            if known is not None:
                reach, height = known
                own[first] += height
                if len(means):
                    means[first], covariances[first] = reach.vectors[0], reach.matrices[1]
            first += 1
        if first < stop:
            entering = reach if first == begin else reach.ahead(chain.a, chain.noise)
            reach = _filtered_into(chain, seen, first, stop, entering, means, covariances, own)
        if heights is not None:
            heights[begin:stop] = own[begin:stop] + seen.rest[begin:stop]
        if begin < stop:
            yield s, reach


def _filtered_into(
    chain: Chain, seen: Observations, begin: int, stop: int, entering: Reach, means: Array, every: Array, heights: Array
) -> Reach:
    matrices, vectors = entering.matrices.copy(), entering.vectors.copy()
    kernels.gaussian_filter(
        begin, stop, seen.kinds, seen.seen, seen.z, chain.a, chain.noise, matrices, vectors, means, every, heights
    )
    return Reach(matrices, vectors)
