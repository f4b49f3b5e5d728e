"""Densities of heavy tails around squared distances, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.heavy_tails import CommonDistances, HeavyTails, Tails
from streamem.kernels.plain.features import add_features, load_block, quietly, scores_of
from streamem.kernels.plain.steps import FINE, PlainSteps, implement, steps_of

Array = NDArray[Any]


@quietly
def bend(scores: Array, tails: Tails, precisions: Array, logs: Array) -> None:
    """Scores (K, b), −½δ but for a shift → log-densities in place; precisions u and logs, (K, b), of the same pairs."""
    ratio = (scores + tails.shifts[:, None]) * tails.slopes[:, None]
    ratio[ratio < 0] = 0.0  # a distance that rounds below 0; NaN stays
    precisions[...] = tails.tops[:, None] / (1 + ratio)
    np.log1p(ratio, out=logs)
    logs[np.isinf(ratio)] = np.nan  # a distance that overflowed says nothing
    np.subtract(tails.constants[:, None], tails.powers[:, None] * logs, out=scores)


@quietly
def weigh(resp: Array, b: int, precisions: Array, logs: Array, ones: Array, sums: Array) -> None:
    """sums (2, K) += Σ r and Σ r·log over the first b columns of resp (K, at least b), which becomes r·u."""
    sums[0] += resp[:, :b].sum(axis=1)
    sums[1] += np.einsum("kb,kb->k", resp[:, :b], logs[:, :b])
    resp[:, :b] *= precisions[:, :b]


class _Rows:
    """Loaded rows, and what `bend` told of them."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.bent = inner, np.empty((2, 0, 0))


def _load(own: HeavyTails, x: Array) -> tuple[int, _Rows]:
    bad, inner = steps_of(own.inner).load(own.inner, x)
    return bad, _Rows(inner)


def _scores(own: HeavyTails, rows: _Rows) -> Array:
    out = steps_of(own.inner).scores(own.inner, rows.inner)
    rows.bent = np.empty((2, *out.shape), dtype=out.dtype)
    bend(out, own.tails, *rows.bent)
    return out


def _add(own: HeavyTails, rows: _Rows, posterior: Array) -> None:
    precisions, logs = rows.bent
    weigh(posterior, posterior.shape[1], precisions, logs, own.ones, own.sums)
    steps_of(own.inner).add(own.inner, rows.inner, posterior)


implement(HeavyTails, PlainSteps(_load, _scores, _add))


@quietly
def _common_scores(own: CommonDistances, z: Array) -> Array:
    whitened = own.whitening @ z[1 : 1 + len(own.whitening)]
    return scores_of(own.linear.products, z) - whitened.dtype.type(0.5) * np.einsum("db,db->b", whitened, whitened)


@quietly
def _common_add(own: CommonDistances, z: Array, posterior: Array) -> None:
    rows = z[1 : 1 + len(own.whitening)]
    own.moments[...] += (rows * posterior.sum(axis=0)) @ rows.T
    add_features(own.linear, z, posterior)


implement(
    CommonDistances, PlainSteps(lambda own, x: (FINE, load_block(own.linear.products, x)), _common_scores, _common_add)
)
