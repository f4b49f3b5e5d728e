"""Second moments of all rows of a chunk together, compiled: what components with one covariance share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.anchored_rows import load_anchored
from streamem.machine.compiled import compiled

Array = NDArray[Any]


@compiled
def add_moments(
    x: Array, weight: Array, center: Array, unscale: Array, buffers: Array, product: Array, sums: Array
) -> None:
    """sums (d, d) float64 += Σ w x̃ x̃ᵀ over rows x (n, d), a block at a time; weight (n,) or (0,) for ones.

    buffers (2, d · rows of a block) and product (d, d) have the dtype in which a block is multiplied.
    """
    n, d = x.shape
    block = buffers.shape[1] // d
    for start in range(0, n, block):
        b = min(block, n - start)
        rows, weighted = buffers[0, : d * b].reshape(d, b), buffers[1, : d * b].reshape(d, b)
        load_anchored(x[start : start + b], center, unscale, rows)
        if weight.size:
            for j in range(d):
                for i in range(b):
                    weighted[j, i] = rows[j, i] * weight[start + i]
        np.dot(weighted if weight.size else rows, rows.T, out=product)
        for i in range(d):
            for j in range(d):
                sums[i, j] += product[i, j]
