"""Scores and information of independent rows.

With γ the responsibilities and u_k the derivative of log w_k + log p_k, the score of a row is s = Σ_k γ_k u_k, and
minus its second derivative is Σ_k γ_k (−∂u_k − u_k u_kᵀ) + s sᵀ (Louis 1982, eq. 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, PassTask
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite
from streamem.models import Mixture
from streamem.running.uncertainty.derivatives import Derivatives
from streamem.running.uncertainty.pilot import Prepared
from streamem.running.uncertainty.ties import Ties

Array = NDArray[Any]

BLOCK_BYTES = 4 * 2**20
"""Of the slopes of a block of rows."""
LEAST_ROWS = 16


@dataclass(frozen=True, eq=False)
class RowTask(PassTask[Stats]):
    """Sums over the rows of a chunk from which score, information and outer products follow."""

    model: Mixture
    params: Params
    names: tuple[str, ...] | None
    prepared: Prepared
    ties: Ties

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """See `sums_of_block`; weight and log_likelihood besides."""
        require_finite(chunk, ref, self.names, self.model.missing)
        with locating(chunk, ref, self.names):
            step = block_rows(self.prepared)
            found = [self._block(chunk, first, first + step) for first in range(0, max(chunk.rows, 1), step)]
        return sum(found[1:], start=found[0])

    def _block(self, chunk: Chunk, first: int, stop: int) -> Stats:
        x = np.ascontiguousarray(chunk.x[first:stop], dtype=np.float64)
        rows = Chunk(x, covariates=chunk.beside(slice(first, stop)))
        weight = np.ones(len(x)) if chunk.weight is None else np.asarray(chunk.weight[first:stop], dtype=np.float64)
        # Of noise too, where `responsibilities` of the model itself leaves it out.
        resp = Mixture.responsibilities(self.model, self.params, rows)
        density = np.where(weight > 0, self.model.log_density(self.params, rows), 0.0)
        sums = sums_of_block(self.prepared, self.ties, x, weight, resp, rows.covariates)
        return Stats(weight=weight.sum(), log_likelihood=weight @ density, **sums)


def block_rows(prepared: Prepared) -> int:
    """Rows of a block."""
    k, width = prepared.coordinates.active.shape
    return max(LEAST_ROWS, BLOCK_BYTES // (8 * k * (width + 4)))


def sums_of_block(
    prepared: Prepared, ties: Ties, x: Array, weight: Array, resp: Array, beside: Array | None = None
) -> dict[str, Array]:
    """Sums over rows x (n, d) with weights (n,), responsibilities (n, S) and concomitants (n, p), where there are any.

    ``second`` (K, Q, Q) of second derivatives and ``squares`` (K, Q, Q) of products of first ones, ``slopes`` (K, Q),
    ``counts`` (S,), ``overlap`` (K, K) of responsibilities, ``score`` (p,) and ``products`` (p, p) of the scores.
    """
    c = prepared.coordinates
    own = np.ascontiguousarray(resp[:, : c.n_components])
    weighed = own * weight[:, None]
    derivatives = Derivatives(c, prepared.pairs, x)
    slopes = derivatives.first()
    slopes[own.T == 0] = 0.0
    scores = row_scores(c.index(), slopes, own, ties.scores(resp, beside))
    return {
        "second": derivatives.second(weighed),
        "squares": np.matmul((slopes * weighed.T[:, :, None]).transpose(0, 2, 1), slopes),
        "slopes": np.matmul(weighed.T[:, None, :], slopes)[:, 0],
        **ties.sums(slopes, resp, weight, beside),
        "overlap": weighed.T @ own,
        "score": weight @ scores,
        "products": (scores * weight[:, None]).T @ scores,
    }


def row_scores(index: Array, slopes: Array, own: Array, tied: Array) -> Array:
    """(n, p) scores: of the family's free numbers, then of those that tie components together (n, p')."""
    emitted = int(index.max(initial=-1)) + 1
    out = np.zeros((len(own), emitted + tied.shape[1]))
    for k, places in enumerate(index):
        known = np.flatnonzero(places >= 0)
        out[:, places[known]] += own[:, k, None] * slopes[k][:, known]
    out[:, emitted:] = tied
    return out
