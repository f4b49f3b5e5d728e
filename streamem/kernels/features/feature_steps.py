"""The steps of a block for products of features, in strips or panels; compiled within the passes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streamem.kernels.features.feature_products import (
    accumulate_features,
    accumulate_posterior,
    load_block,
    loaded_rows,
    multiply_features,
    rows_of_block,
)
from streamem.kernels.features.feature_sums import FeatureSums
from streamem.kernels.steps import FINE, implement
from streamem.machine.compiled import compiled_inside
from streamem.machine.row_major import columns

Array = NDArray[Any]


def _load(own: Any, x: Any) -> Any:
    load_block(x, own.products)
    return FINE


def _scores(own: Any, out: Any) -> Any:
    multiply_features(own.products, loaded_rows(own.products, out.shape[1]), out)


def _add(own: Any, posterior: Any, b: Any) -> Any:
    z = loaded_rows(own.products, b)
    accumulate_posterior(posterior, own.products, z, own.resp, own.product, own.sums, own.filled)


def _add_rows(own: Any, weights: Any) -> Any:
    accumulate_rows(own, weights)


def _next_rows(own: Any, left: Any, most: Any) -> Any:
    return rows_of_block(left, most, own.products.strips)


implement(FeatureSums, _load, _scores, _add, _add_rows, _next_rows)


@compiled_inside
def accumulate_rows(own: FeatureSums, weights: Array) -> None:
    """Add the statistics of the loaded rows, weighted by weights (b, at least K)."""
    products, resp = own.products, own.resp
    rows, k, tile = weights.shape[0], products.natural.shape[1], products.panel.shape[1]
    z = loaded_rows(products, rows)
    if products.strips:
        posterior = resp.reshape(resp.size)[: k * rows].reshape(k, rows)
        columns(weights, posterior)
        accumulate_posterior(posterior, products, z, resp, own.product, own.sums, False)
        return
    for i in range(rows):
        source, target = weights[i], resp[i]
        for j in range(k):
            target[j] = source[j]
    resp[rows : -(-rows // tile) * tile] = 0
    accumulate_features(resp, products, z, own.product, own.sums, False)
