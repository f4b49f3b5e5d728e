"""The steps of a tile of rows for whitened residuals of autoregressive Gaussians; compiled within the passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.anchored_rows import load_anchored
from streamem.kernels.features.residuals import Residuals
from streamem.kernels.steps import FINE, implement
from streamem.machine.compiled import compiled_inside

Array = NDArray[Any]


@compiled_inside
def _load_rows(own: Residuals, x: Array) -> None:
    """[1, x̃] of rows x (b, D) with rows last."""
    width, rows = own.whitened.shape[1], x.shape[0]
    z = own.z[: width * rows].reshape(width, rows)
    z[0] = 1.0
    load_anchored(x, own.center, own.unscale, z[1:])


@compiled_inside
def _log_prob(own: Residuals, out: Array) -> None:
    """out (K, b) = constant − ½ |W z|²."""
    (every, width), (k, rows) = own.whitened.shape, out.shape
    d = every // k
    found = own.residuals[: every * rows].reshape(every, rows)
    np.dot(own.whitened, own.z[: width * rows].reshape(width, rows), found)
    for i in range(k):
        target = out[i]
        target[:] = own.constants[i]
        for j in range(i * d, (i + 1) * d):
            values = found[j]
            for r in range(target.size):
                target[r] -= 0.5 * values[r] * values[r]


def _load(own: Any, x: Any) -> Any:
    _load_rows(own, x)
    return FINE


def _scores(own: Any, out: Any) -> Any:
    _log_prob(own, out)


implement(Residuals, _load, _scores)
