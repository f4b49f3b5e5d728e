"""Recursions of `chains.driven` in NumPy, for small work.

What comes before a step is a product of matrices, which is associative: all of them are worked out in log₂(n) rounds of
one product a step (Hillis & Steele 1986), in logarithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.plain.features import quietly

Array = NDArray[Any]


@quietly
def driven_alphas(log_prob: Array, moves: Array, spans: Array, entries: Array, alpha: Array, gains: Array) -> None:
    """Fills alpha (n, K) and gains (n,), as the compiled function."""
    filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
    if not len(filled):
        return
    rows, place, _ = _places(spans[filled])
    first = place == 0
    steps = np.empty((len(rows), *moves.shape[1:]))
    steps[first] = entries[filled][:, None, :]
    steps[~first] = moves[rows[~first] - 1]
    products = steps + log_prob[rows][:, None, :]
    reach = 1
    while reach < int(place.max()) + 1:
        late = np.flatnonzero(place >= reach)
        products[late] = _lowered(_product(products[late - reach], products[late]))
        reach *= 2
    found = products[:, 0] - _total(products[:, 0])[:, None]
    predicted = np.empty_like(found)
    predicted[first] = entries[filled]
    at = np.flatnonzero(~first)
    predicted[at] = _total(found[at - 1][:, :, None] + steps[at], axis=1)
    predicted += log_prob[rows]
    gains[rows] = _total(predicted)
    alpha[rows] = predicted - gains[rows][:, None]


@quietly
def driven_betas(log_prob: Array, moves: Array, spans: Array, exits: Array, alpha: Array, beta: Array) -> None:
    """Fills beta (n, K), as the compiled function."""
    filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
    if not len(filled):
        return
    rows, _, left = _places(spans[filled])
    last = left == 0
    products = np.empty((len(rows), *moves.shape[1:]))
    products[last] = exits[filled][:, :, None]
    at = rows[~last]
    products[~last] = moves[at] + log_prob[at + 1][:, None, :]
    reach = 1
    while reach < int(left.max()) + 1:
        early = np.flatnonzero(left >= reach)
        products[early] = _lowered(_product(products[early], products[early + reach]))
        reach *= 2
    found = products[:, :, 0]
    beta[rows] = found - _total(alpha[rows] + found)[:, None]


@quietly
def driven_scores(log_prob: Array, moves: Array, rows: Array, best: bool) -> None:
    """rows (m, K) of the first step → of the last one, in place."""
    for t, values in enumerate(log_prob):
        if t:
            paths = rows[:, :, None] + moves[t - 1]
            rows[...] = paths.max(axis=1) if best else _total(paths, axis=1)
        rows += values


@quietly
def driven_climb(log_prob: Array, moves: Array, entry: Array) -> None:
    """Log-probabilities of the best path to each state, in place."""
    for t, values in enumerate(log_prob):
        values += (log_prob[t - 1][:, None] + moves[t - 1]).max(axis=0) if t else entry
        highest = values.max()
        if np.isfinite(highest):
            values -= highest


@quietly
def driven_trace(scores: Array, moves: Array, state: int, path: Array) -> None:
    """The best path (n,) that ends in a state."""
    for t in range(len(scores) - 1, -1, -1):
        state = state if t == len(scores) - 1 else int((scores[t] + moves[t, :, state]).argmax())
        path[t] = state


def _places(spans: Array) -> tuple[Array, Array, Array]:
    """Rows of all steps, how many of their sequence come before each, and how many follow."""
    lengths = spans[:, 1] - spans[:, 0]
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    rows = place + np.repeat(spans[:, 0], lengths)
    return rows, place, np.repeat(lengths, lengths) - 1 - place


def _product(left: Array, right: Array) -> Array:
    """Products (n, K, K) of matrices in logarithms."""
    return _total(left[:, :, :, None] + right[:, None, :, :], axis=2)


def _lowered(products: Array) -> Array:
    """Matrices up to a factor for each: the largest entry becomes 1."""
    highest = products.max(axis=(1, 2), keepdims=True)
    return np.asarray(products - np.where(np.isfinite(highest), highest, 0.0))


def _total(values: Array, axis: int = -1) -> Array:
    """log Σ exp along an axis; −inf where all are, NaN where one is."""
    highest = values.max(axis=axis, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    return np.asarray(np.log(np.exp(values - highest).sum(axis=axis)) + np.squeeze(highest, axis=axis))
