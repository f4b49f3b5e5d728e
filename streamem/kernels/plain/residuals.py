"""Whitened residuals of autoregressive Gaussians, in NumPy."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.residuals import Residuals
from streamem.kernels.plain.features import load_anchored, quietly
from streamem.kernels.plain.steps import FINE, PlainSteps, implement

Array = NDArray[Any]


@quietly
def _load(own: Residuals, x: Array) -> tuple[int, Array]:
    z = np.empty((own.whitened.shape[1], len(x)))
    z[0] = 1.0
    load_anchored(x, own.center, own.unscale, z[1:])
    return FINE, z


@quietly
def _scores(own: Residuals, z: Array) -> Array:
    k = len(own.constants)
    found = (own.whitened @ z).reshape(k, -1, z.shape[1])
    return np.asarray(own.constants[:, None] - 0.5 * np.einsum("kdb,kdb->kb", found, found))


def _never(own: Residuals, rows: Any, posterior: Array) -> NoReturn:
    raise TypeError("statistics of residuals are those of products of features")


implement(Residuals, PlainSteps(_load, _scores, _never))
