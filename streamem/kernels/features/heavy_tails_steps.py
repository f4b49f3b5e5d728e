"""The steps of a block for densities of heavy tails, around those of squared distances; compiled within the passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.feature_products import (
    accumulate_posterior,
    load_block,
    loaded_rows,
    multiply_features,
    rows_of_block,
)
from streamem.kernels.features.heavy_tails import CommonDistances, HeavyTails, Tails
from streamem.kernels.steps import FINE, add, filled_up, implement, load, next_rows, scores
from streamem.machine.compiled import compiled, compiled_inside
from streamem.machine.log1p import log1p_nonnegative

Array = NDArray[Any]


@compiled
def bend(scores: Array, tails: Tails, precisions: Array, logs: Array) -> None:
    """Scores (K, b), −½δ but for a shift → log-densities in place; precisions u and logs, (K, b), of the same pairs."""
    for k in range(scores.shape[0]):
        row, own, log = scores[k], precisions[k], logs[k]
        shift, slope, power = tails.shifts[k], tails.slopes[k], tails.powers[k]
        constant, top = tails.constants[k], tails.tops[k]
        zero = shift * 0
        one = zero + 1
        for i in range(row.size):
            ratio = (row[i] + shift) * slope
            ratio = zero if ratio < zero else ratio  # a distance that rounds below 0; NaN stays
            value = log1p_nonnegative(ratio)
            own[i] = top / (one + ratio)
            log[i] = value
            row[i] = constant - power * value


@compiled
def weigh(resp: Array, b: int, precisions: Array, logs: Array, ones: Array, sums: Array) -> None:
    """sums (2, K) += Σ r and Σ r·log over the first b columns of resp (K, at least b), which becomes r·u."""
    for k in range(resp.shape[0]):
        row = resp[k, :b]
        own, log = precisions[k, :b], logs[k, :b]
        sums[0, k] += np.dot(row, ones[:b])
        sums[1, k] += np.dot(row, log)
        for i in range(b):
            row[i] *= own[i]


def _load(own: Any, x: Any) -> Any:
    return load(own.inner, x)


def _scores(own: Any, out: Any) -> Any:
    scores(own.inner, out)
    k, b = out.shape
    bend(out, own.tails, own.precisions[: k * b].reshape(k, b), own.logs[: k * b].reshape(k, b))


def _add(own: Any, posterior: Any, b: Any) -> Any:
    k, columns = posterior.shape
    precisions, logs = own.precisions[: k * columns].reshape(k, columns), own.logs[: k * columns].reshape(k, columns)
    weigh(posterior, b, precisions, logs, own.ones, own.sums)
    add(own.inner, posterior, b)


def _next_rows(own: Any, left: Any, most: Any) -> Any:
    return next_rows(own.inner, left, most)


def _filled_up(own: Any, b: Any) -> Any:
    return filled_up(own.inner, b)


implement(HeavyTails, _load, _scores, _add, next_rows=_next_rows, filled_up=_filled_up)


@compiled_inside
def _common_scores(own: CommonDistances, out: Array) -> None:
    """out (K, b) = linear terms, and −½ x̃ᵀPx̃ of each row."""
    b, d = out.shape[1], own.whitening.shape[0]
    z = loaded_rows(own.linear.products, b)
    multiply_features(own.linear.products, z, out)
    whitened, quadratic = own.whitened[: d * b].reshape(d, b), own.quadratic[:b]
    np.dot(own.whitening, z[1 : 1 + d], whitened)
    quadratic[:] = 0
    for j in range(d):
        row = whitened[j]
        for i in range(b):
            quadratic[i] += row[i] * row[i]
    half = own.whitening.dtype.type(-0.5)
    for k in range(out.shape[0]):
        row = out[k]
        for i in range(b):
            row[i] += half * quadratic[i]


@compiled_inside
def _common_add(own: CommonDistances, posterior: Array, b: int) -> None:
    """Linear sums of each component, and second moments of all together."""
    d, linear = own.whitening.shape[0], own.linear
    z = loaded_rows(linear.products, b)
    total, weighted = own.quadratic[:b], own.weighted[: d * b].reshape(d, b)
    total[:] = 0
    for k in range(posterior.shape[0]):
        row = posterior[k]
        for i in range(b):
            total[i] += row[i]
    for j in range(d):
        row, target = z[1 + j], weighted[j]
        for i in range(b):
            target[i] = row[i] * total[i]
    np.dot(weighted, z[1 : 1 + d].T, own.product)
    for i in range(d):
        for j in range(d):
            own.moments[i, j] += own.product[i, j]
    accumulate_posterior(posterior, linear.products, z, linear.resp, linear.product, linear.sums, linear.filled)


def _load_common(own: Any, x: Any) -> Any:
    load_block(x, own.linear.products)
    return FINE


def _scores_common(own: Any, out: Any) -> Any:
    _common_scores(own, out)


def _add_common(own: Any, posterior: Any, b: Any) -> Any:
    _common_add(own, posterior, b)


def _next_common(own: Any, left: Any, most: Any) -> Any:
    return rows_of_block(left, most, own.linear.products.strips)


implement(CommonDistances, _load_common, _scores_common, _add_common, next_rows=_next_common)
