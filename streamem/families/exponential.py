"""The E-step of an exponential family as two matrix products.

With features T(x) (F, b) and natural parameters η (K, F), the log-densities of a block are η·T and its statistics R·Tᵀ
(Wainwright & Jordan 2008, §3). Rows lie last, so that features are filled by contiguous vector operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.numerics import negligible
from streamem.core.ports import MixtureSums
from streamem.families.features import Features, as_rows
from streamem.families.tiling import block_rows, products_of

Array = NDArray[Any]

NO_WEIGHTS = as_rows(np.empty(0))


class ExponentialKernel:
    """A family whose features are products of pairs, at fixed natural parameters; x̃ = (x − center) / scale.

    Parameters
    ----------
    panels : natural parameters, cut by `panels_of`; products have their dtype, sums are float64 beyond a tile of rows
    features : the F features
    center, scale : (d,) the anchor
    rounding : bound on the rounding error of one log-density, in nats
    """

    def __init__(self, panels: Array, features: Features, center: Array, scale: Array, rounding: float) -> None:
        from streamem.families import feature_products  # Numba loads with the first kernel, not with the package

        self._compiled = feature_products
        self.dtype, self.rounding = panels.dtype, rounding
        self.path = f"{self.dtype.name} products"
        n_panels, k, features_of_panel = panels.shape
        self._n_statistics, self._most_rows = len(features.left), block_rows(k, len(center))
        self._products = products_of(panels, features, center, scale, self._most_rows)
        tile = self._products.panel.shape[1]
        self._z: Array = self._products.z_buffer[:0].reshape(self._products.z_rows, 0)
        self._resp = np.zeros((-(-self._most_rows // tile) * tile, k), dtype=self.dtype)
        self._product = np.empty((features_of_panel, k), dtype=self.dtype)
        self._sums = np.zeros((n_panels, features_of_panel, k))

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        z_rows = self._products.z_rows
        self._z = self._products.z_buffer[: z_rows * len(x)].reshape(z_rows, len(x))
        self._compiled.load_block(as_rows(x), self._products, self._z)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = η·T."""
        suited = out.dtype == self.dtype and out.flags.c_contiguous
        target = out if suited else np.empty(out.shape, dtype=self.dtype)
        self._compiled.multiply_features(self._products, self._z, target)
        if not suited:
            out[...] = target

    def accumulate(self, resp: Array) -> None:
        """Sums += R·Tᵀ for resp (K, b)."""
        self._compiled.transpose_blockwise(np.ascontiguousarray(resp, dtype=self.dtype), self._resp)
        self._resp[resp.shape[1] :] = 0.0
        self._compiled.accumulate_features(self._resp, self._products, self._z, self._product, self._sums, False)

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), block by block, and their statistics."""
        from streamem.families.mixture_pass import mixture_pass

        k, before = len(log_weights), self._sums[0, 0].copy()
        rows = self._products.panel.shape[1] if len(self._sums) == 1 else self._most_rows
        log_likelihood, pairs = mixture_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            log_weights.astype(self.dtype),
            self._products,
            np.empty(k * rows, dtype=self.dtype),
            np.empty((3, rows), dtype=self.dtype),
            self._resp,
            self._product,
            self._sums,
            self.dtype.type(negligible(k)),
        )
        return MixtureSums(log_likelihood, pairs, self._sums[0, 0] - before)  # the first feature is 1

    def sums(self) -> Array:
        """Everything accumulated so far: (K, F) float64."""
        k = self._sums.shape[2]
        return np.ascontiguousarray(self._sums.reshape(-1, k)[: self._n_statistics].T)
