"""The kernel of autoregressive Gaussians: whitened residuals of all components are one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.families.features import AnchoredBlock

Array = NDArray[Any]

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""


class ResidualKernel:
    """log N(W_k z; 0, 1) + constant, for z = [1, anchored row] and W_k = Uₖᵀ[−c_k, I, −A_k].

    Residuals are formed before they are squared, so that little noise beside a large signal is told to many digits.

    Parameters
    ----------
    whitened : (K, d, 1 + D) W
    constants : (K,) log-density of a residual of 0, in nats
    center, scale : (D,) the anchor of a whole row
    rows : most rows of a block
    """

    path, dtype = "float64 residuals", np.dtype(np.float64)

    def __init__(self, whitened: Array, constants: Array, center: Array, scale: Array, rows: int) -> None:
        k, d, width = whitened.shape
        self._whitened, self._constants = np.ascontiguousarray(whitened.reshape(k * d, width)), constants
        self._block = AnchoredBlock(center, scale, rows, np.float64)
        self._residuals, self._weighted = np.empty(k * d * rows), np.empty(width * rows)
        self._moments = np.zeros((k, width, width))
        size = float(np.sqrt((whitened**2).sum(axis=(1, 2)).max()))
        # The second term: a covariance from moments errs by eps·size², where the likelihood is stationary.
        self.rounding = SAFETY * EPS * (width + 2 * np.sqrt(d) * size) + d * min(EPS * size**2, 1.0) ** 2

    def load(self, x: Array) -> None:
        """Take the next block (b, D)."""
        self._block.load(x)

    def log_prob(self, out: Array) -> None:
        """out[k] = constant − ½ |W_k z|²."""
        z, (rows, components) = self._block.z, (len(self._whitened), len(self._constants))
        residuals = self._residuals[: rows * z.shape[1]].reshape(rows, z.shape[1])
        np.matmul(self._whitened, z, out=residuals)
        by_component = residuals.reshape(components, rows // components, z.shape[1])
        np.einsum("kdb,kdb->kb", by_component, by_component, out=out)
        out *= -0.5
        out += self._constants[:, None]

    def accumulate(self, resp: Array) -> None:
        """Second moments of z, weighted by resp (K, b)."""
        z = self._block.z
        weighted = self._weighted[: z.size].reshape(z.shape)
        for moments, own in zip(self._moments, resp, strict=True):
            np.multiply(z, own, out=weighted)
            moments += weighted @ z.T

    def stats(self) -> Stats:
        """moments (K, 1 + D, 1 + D); the first row holds the weight and the sums."""
        return Stats(moments=(self._moments + np.swapaxes(self._moments, 1, 2)) / 2)
