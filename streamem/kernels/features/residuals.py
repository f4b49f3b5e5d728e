"""What passes over whitened residuals work with."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class Residuals(NamedTuple):
    """Autoregressive Gaussians as whitened residuals W z of z = [1, anchored row].

    Attributes
    ----------
    center, unscale : (D,) the anchor of a whole row
    whitened : (K·d, 1 + D) the W of all components
    constants : (K,) log-density of a residual of 0, in nats
    z, residuals : buffers for a tile, of 1 + D and K·d values a row
    """

    center: Array
    unscale: Array
    whitened: Array
    constants: Array
    z: Array
    residuals: Array
