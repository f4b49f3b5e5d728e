"""Rows with values in place of those that were not observed: conditional means, or draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.ports import FullFamily

Array = NDArray[Any]


def completed_rows(
    family: FullFamily, components: Any, x: Array, resp: Array, n_draws: int, rng: np.random.RandomState | None
) -> Array:
    """Rows x (n, d) whose NaN are replaced, given what was observed of each; what was observed stays, bit for bit.

    Parameters
    ----------
    resp : (n, K) probabilities of the components of each row; NaN for padding, which stays as it is
    n_draws : 0 for conditional means Σ_k r_k E_k[x | observed]; else so many draws, of a component and then of what
        it emits, beside each other: (n, n_draws·d)
    """
    d = x.shape[1]
    rows = np.flatnonzero(np.isnan(x).any(axis=1) & ~np.isnan(resp).any(axis=1))
    out = np.tile(x.astype(np.float64), (1, max(1, n_draws)))
    if not len(rows):
        return out
    partial, chances = x[rows], resp[rows]
    absent = np.isnan(partial)
    for draw in range(max(1, n_draws)):
        if n_draws:
            assert rng is not None
            values = family.drawn_for_missing(components, partial, _drawn(chances, rng), rng)
        else:
            values = family.filled(components, partial, chances)
        place = out[rows, draw * d : (draw + 1) * d]
        place[absent] = np.asarray(values, dtype=np.float64)[absent]
        out[rows, draw * d : (draw + 1) * d] = place
    return out


def _drawn(chances: Array, rng: np.random.RandomState) -> Array:
    """(n,) a component of each row, drawn by its probabilities (n, K)."""
    levels = np.cumsum(chances, axis=1)
    at = rng.uniform(size=len(chances)) * levels[:, -1]
    return np.minimum((levels <= at[:, None]).sum(axis=1), chances.shape[1] - 1)
