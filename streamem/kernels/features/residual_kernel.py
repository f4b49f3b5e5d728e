"""The kernel of autoregressive Gaussians: whitened residuals of all components are one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.kernels.features.exponential import ExponentialKernel
from streamem.kernels.features.features import as_rows, features_of_moments
from streamem.kernels.features.residuals import Residuals
from streamem.kernels.tiling import panels_of
from streamem.machine.lanes import fill_in_lanes
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""

TILE = 512
"""Rows at a time, so that the residuals of all components stay in the cache."""


class ResidualKernel(Kernel):
    """log N(W_k z; 0, 1) + constant, for z = [1, anchored row] and W_k = Uₖᵀ[−c_k, I, −A_k].

    Residuals are formed before they are squared, so that little noise beside a large signal is told to many digits.

    Parameters
    ----------
    whitened : (K, d, 1 + D) W
    constants : (K,) log-density of a residual of 0, in nats
    center, scale : (D,) the anchor of a whole row
    """

    path, dtype = "float64 residuals", np.dtype(np.float64)

    def __init__(self, whitened: Array, constants: Array, center: Array, scale: Array) -> None:
        k, d, width = whitened.shape
        self._whitened, self._constants = np.ascontiguousarray(whitened.reshape(k * d, width)), constants
        upper, lower = np.triu_indices(width - 1)
        features = features_of_moments(width - 1, 1 + upper, 1 + lower)
        # For its sums of features alone: its log-densities, of natural parameters that are nil, are never asked for.
        nothing = panels_of(np.zeros((k, len(features.left))), np.float64)
        self._sums = ExponentialKernel(nothing, features, center, scale, 0.0)
        self._anchor = center.copy(), 1.0 / scale
        self._residuals = np.empty(k * d * TILE)
        size = float(np.sqrt((whitened**2).sum(axis=(1, 2)).max()))
        self.rounding = SAFETY * EPS * (width + 2 * np.sqrt(d) * size)

    def load(self, x: Array) -> None:
        """Take the next block (b, D)."""
        self._sums.load(x)

    def log_prob(self, out: Array) -> None:
        """out[k] = constant − ½ |W_k z|²."""
        z, (rows, components) = self._sums.z, (len(self._whitened), len(self._constants))
        for first in range(0, z.shape[1], TILE):
            tile = z[:, first : first + TILE]
            residuals = self._residuals[: rows * tile.shape[1]].reshape(rows, tile.shape[1])
            np.matmul(self._whitened, tile, out=residuals)
            by_component = residuals.reshape(components, rows // components, tile.shape[1])
            np.einsum("kdb,kdb->kb", by_component, by_component, out=out[:, first : first + TILE])
        out *= -0.5
        out += self._constants[:, None]

    def accumulate(self, resp: Array) -> None:
        """Second moments of z, weighted by resp (K, b)."""
        self._sums.accumulate(resp)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, D), row after row."""
        k, width = len(self._constants), self._whitened.shape[1]
        z, joint = thread_buffer("residual z", (width * TILE,)), thread_buffer("joint", (k * TILE,))
        own = Residuals(*self._anchor, self._whitened, self._constants.copy(), z, self._residuals)
        fill_in_lanes(b, lambda b: kernels.densities_pass(as_rows(x), k, own, joint, b, peaks))

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, D) with weights (n, at least K)."""
        self._sums.accumulate_rows(x, weights, False)

    def restart(self) -> None:
        """Begin anew."""
        self._sums.restart()

    def stats(self) -> Stats:
        """moments (K, 1 + D, 1 + D); the first row holds the weight and the sums."""
        sums, width = self._sums.sums(), self._whitened.shape[1]
        moments = np.empty((len(sums), width, width))
        moments[:, 0], moments[:, :, 0] = sums[:, :width], sums[:, :width]
        upper, lower = np.triu_indices(width - 1)
        moments[:, 1 + upper, 1 + lower] = moments[:, 1 + lower, 1 + upper] = sums[:, width:]
        return Stats(moments=moments)
