"""The steps of a block for features that are functions of columns; compiled within the passes."""

from __future__ import annotations

from typing import Any

from streamem.kernels.features.feature_products import (
    accumulate_posterior,
    loaded_rows,
    multiply_features,
    rows_of_block,
)
from streamem.kernels.features.feature_steps import accumulate_rows
from streamem.kernels.features.transform_fill import fill_features
from streamem.kernels.features.transform_sums import TransformSums
from streamem.kernels.steps import FINE, implement


def _load(own: Any, x: Any) -> Any:
    fill_features(x, own.table, own.columns, loaded_rows(own.linear.products, x.shape[0]))
    return FINE


def _scores(own: Any, out: Any) -> Any:
    multiply_features(own.linear.products, loaded_rows(own.linear.products, out.shape[1]), out)


def _add(own: Any, posterior: Any, b: Any) -> Any:
    linear = own.linear
    z = loaded_rows(linear.products, b)
    accumulate_posterior(posterior, linear.products, z, linear.resp, linear.product, linear.sums, linear.filled)


def _add_rows(own: Any, weights: Any) -> Any:
    accumulate_rows(own.linear, weights)


def _next_rows(own: Any, left: Any, most: Any) -> Any:
    return rows_of_block(left, most, own.linear.products.strips)


implement(TransformSums, _load, _scores, _add, _add_rows, _next_rows)
