"""Gaussians of which some go by differences x − m, in NumPy: all pairs of row and component are worked out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.pairs.apart_buffers import Apart, Room
from streamem.kernels.pairs.pair_buffers import Gaussians, PairBuffers
from streamem.kernels.plain.features import add_to_sums, load_features, quietly, scores_of
from streamem.kernels.plain.passes import share_out
from streamem.kernels.tiling import Products
from streamem.machine.plain_loops import scaled_by_row

Array = NDArray[Any]


@quietly
def load_rows(x: Array, center: Array, inverse_scale: Array, out: Array) -> None:
    """Write anchored rows x (b, d) into out (b, d)."""
    np.multiply(x - center, inverse_scale, out=out)


def log_prob_of_all(apart: Apart, factors: Array, rows: int, buffers: PairBuffers) -> None:
    """Values of all pairs of so many anchored rows, one component after another."""
    found = _log_prob(apart.gaussians, buffers.x[:rows])
    buffers.values[: found.size] = found.reshape(-1)


def add_pairs(origins: Array, sums: Array, moments: Array, buffers: PairBuffers) -> None:
    """Statistics over pairs of anchored rows, about the components' origins."""
    b = 1 + int(buffers.rows[: buffers.starts[-1]].max(initial=-1))
    weights = np.zeros((len(origins), b))
    for s in range(len(origins)):
        pairs = slice(int(buffers.starts[s]), int(buffers.starts[s + 1]))
        weights[s, buffers.rows[pairs]] = buffers.values[pairs]
    _add(buffers.x[:b], weights, origins, sums, moments)


@quietly
def apart_pass(
    x: Array,
    weight: Array,
    log_weights: Array,
    products: Products,
    joint: Array,
    scratch: Array,
    resp: Array,
    product: Array,
    sums: Array,
    least: float,
    apart: Apart,
    apart_log_weights: Array,
    slack: float,
    room: Room,
    buffers: PairBuffers,
    apart_sums: Array,
    apart_moments: Array,
    occupied: Array,
) -> tuple[float, float]:
    """`mixture_pass` for L components, of which there may be none, and S others.

    Adds to sums what L components get, to apart_sums, apart_moments and occupied (S,) what the others get.
    """
    some, every = len(log_weights), np.concatenate([log_weights.astype(np.float64), apart_log_weights])
    log_likelihood, pairs = 0.0, 0.0
    for start in range(0, len(x), scratch.shape[1]):
        chosen, w = x[start : start + scratch.shape[1]], weight[start : start + scratch.shape[1]]
        rows = _anchored(chosen, products)
        scores, features = _log_prob(apart.gaussians, rows), None
        if some:
            features = load_features(products, chosen)
            scores = np.vstack([scores_of(products, features).astype(np.float64), scores])
        gained, active = share_out(scores, every, w, float(least))
        log_likelihood, pairs = log_likelihood + gained, pairs + active
        if features is not None:
            add_to_sums(features, scores[:some].astype(features.dtype), sums)
        occupied += scores[some:].sum(axis=1)
        _add(rows, scores[some:], apart.gaussians.origins, apart_sums, apart_moments)
    return log_likelihood, pairs


@quietly
def apart_densities(
    x: Array,
    products: Products,
    block: int,
    joint: Array,
    together: Array,
    apart: Apart,
    members: Array,
    width: float,
    slack: float,
    room: Room,
    buffers: PairBuffers,
    b: Array,
    peaks: Array,
) -> None:
    """`densities_pass` for L components by products, and S others; members (K,) are these and those, in this order."""
    some = len(members) - len(apart.gaussians.means)
    for start in range(0, len(x), block):
        chosen = x[start : start + block]
        log_prob = np.empty((len(members), len(chosen)))
        log_prob[members[some:]] = _log_prob(apart.gaussians, _anchored(chosen, products))
        if some:
            log_prob[members[:some]] = scores_of(products, load_features(products, chosen))
        scaled_by_row(log_prob, b[start : start + block], peaks[start : start + block])


def accumulate_apart_rows(
    x: Array,
    products: Products,
    block: int,
    weights: Array,
    members: Array,
    joint: Array,
    resp: Array,
    product: Array,
    sums: Array,
    origins: Array,
    buffers: PairBuffers,
    apart_sums: Array,
    apart_moments: Array,
) -> None:
    """Statistics of x (n, d) with weights (n, at least K)."""
    some = len(members) - len(origins)
    for start in range(0, len(x), block):
        chosen, own = x[start : start + block], weights[start : start + block, members].T
        if some:
            features = load_features(products, chosen)
            add_to_sums(features, own[:some].astype(features.dtype), sums)
        _add(_anchored(chosen, products), own[some:], origins, apart_sums, apart_moments)


@quietly
def _anchored(x: Array, products: Products) -> Array:
    return np.asarray((x - products.center) * products.unscale)


@quietly
def _log_prob(gaussians: Gaussians, rows: Array) -> Array:
    """Log-densities (S, b) of anchored rows (b, d), by differences."""
    differences = rows - gaussians.means[:, None, :]
    if gaussians.factors.ndim == 2:
        differences *= gaussians.factors[:, None, :]
    else:
        differences = differences @ np.swapaxes(gaussians.factors, 1, 2)
    return np.asarray(gaussians.constants[:, None] - 0.5 * np.einsum("kbd,kbd->kb", differences, differences))


@quietly
def _add(rows: Array, values: Array, origins: Array, sums: Array, moments: Array) -> None:
    """Statistics of rows (b, d) with weights (S, b), about the origins of the components; weights of 0 add nothing."""
    own = rows - origins[:, None, :]
    weighted = own * values[:, :, None]
    second = (weighted * own).sum(axis=1) if moments.ndim == 2 else np.swapaxes(weighted, 1, 2) @ own
    first = weighted.sum(axis=1)
    if not (np.isfinite(second).all() and np.isfinite(first).all()):
        some = [_sums_of_one(own[s, counts], values[s, counts], second[s]) for s, counts in enumerate(values != 0)]
        first, second = np.stack([each[0] for each in some]), np.stack([each[1] for each in some])
    sums[:, 0] += values.sum(axis=1)
    sums[:, 1:] += first
    if moments.ndim == 2:
        moments += second
    else:
        moments[:, :, : rows.shape[1]] += second if len(moments) == len(second) else second.sum(axis=0)


def _sums_of_one(own: Array, values: Array, like: Array) -> tuple[Array, Array]:
    """First and second moments of the rows that count: what does not may overflow."""
    weighted = own * values[:, None]
    return weighted.sum(axis=0), (weighted * own).sum(axis=0) if like.ndim == 1 else weighted.T @ own
