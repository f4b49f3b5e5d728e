"""Densities of autoregressive Gaussians, row after row, compiled: one call for many tiles of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.anchored_rows import load_anchored
from streamem.machine.compiled import compiled
from streamem.machine.row_major import scaled

Array = NDArray[Any]


@compiled
def densities_of_residuals(
    x: Array,
    center: Array,
    unscale: Array,
    whitened: Array,
    constants: Array,
    z: Array,
    residuals: Array,
    joint: Array,
    b: Array,
    peaks: Array,
) -> None:
    """b (n, width) = exp(constant − ½ |W z|² − largest of the row) and peaks (n,), those largest, of rows x (n, D).

    whitened (K·d, 1 + D) are the W of all components; z, residuals and joint are buffers for a tile of (1 + D), K·d and
    K values a row.
    """
    width, k = whitened.shape[1], constants.size
    d, tile = whitened.shape[0] // k, joint.size // k
    for start in range(0, x.shape[0], tile):
        rows = min(tile, x.shape[0] - start)
        own, log_prob = z[: width * rows].reshape(width, rows), joint[: k * rows].reshape(k, rows)
        found = residuals[: k * d * rows].reshape(k * d, rows)
        own[0] = 1.0
        load_anchored(x[start : start + rows], center, unscale, own[1:])
        np.dot(whitened, own, found)
        for i in range(k):
            target = log_prob[i]
            target[:] = constants[i]
            for j in range(i * d, (i + 1) * d):
                values = found[j]
                for r in range(target.size):
                    target[r] -= 0.5 * values[r] * values[r]
        scaled(log_prob, b[start : start + rows], peaks[start : start + rows])
