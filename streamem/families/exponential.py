"""The E-step of an exponential family as two matrix products.

With features T(x) (F, b) and natural parameters η (K, F), the log-densities of a block are η·T and its statistics R·Tᵀ
(Wainwright & Jordan 2008, §3). Rows lie last, so that features are filled by contiguous vector operations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.families.features import AnchoredBlock, Features

Array = NDArray[Any]

BLOCK_BYTES = 2**20


class _Shape(NamedTuple):
    components: float
    rows: int
    features: int


SHAPES = (_Shape(8, 256, 288), _Shape(32, 128, 96), _Shape(128, 64, 96), _Shape(np.inf, 256, 288))
"""Rows of a tile and most features of a panel, below a number of components."""


class Tiling(NamedTuple):
    """How F features of K components are cut: a function of the shape only, because sums depend on it.

    Attributes
    ----------
    panels : number of panels
    features : features a panel
    rows : rows a tile
    """

    panels: int
    features: int
    rows: int


def tiling(k: int, n_statistics: int) -> Tiling:
    """Measured on the grid of the bench (bench/README.md): small panels for few components, large ones for many."""
    rows, most = next((shape.rows, shape.features) for shape in SHAPES if k < shape.components)
    panels = -(-n_statistics // most)
    features = -(-n_statistics // panels)
    return Tiling(panels, -(-features // 8) * 8, rows)


def block_rows(k: int, d: int) -> int:
    """Rows a block: a power of two between 512 and 2048, so that rows and responsibilities stay in the cache.

    A function of the shape only: the summation order, and so the bits, depend on it.
    """
    rows = BLOCK_BYTES // (8 * (k + d))
    return 1 << int(np.clip(rows, 512, 2048)).bit_length() - 1


def workspace_bytes(k: int, d: int, n_statistics: int) -> int:
    """Bytes that a kernel holds, the responsibilities of a block included."""
    panels, features, rows = tiling(k, n_statistics)
    blocks = block_rows(k, d) * (d + 2 + 3 * k)
    return 8 * (blocks + features * rows + rows * k + 4 * panels * features * k)


class ExponentialKernel:
    """A family whose features are products of pairs, at fixed natural parameters; x̃ = (x − center) / scale.

    Parameters
    ----------
    natural : (K, F) natural parameters
    features : the F features
    center, scale : (d,) the anchor
    rounding : bound on the rounding error of one log-density, in nats
    dtype : of the products; sums are float64 beyond a tile of rows
    """

    def __init__(
        self, natural: Array, features: Features, center: Array, scale: Array, rounding: float, dtype: DTypeLike
    ) -> None:
        from streamem.families import feature_products  # Numba loads with the first kernel, not with the package

        self._compiled = feature_products
        (k, n_statistics), d = natural.shape, len(center)
        self.dtype, self.rounding = np.dtype(dtype), rounding
        self.path = f"{self.dtype.name} products"
        self._shape, self._features = (k, n_statistics), features
        self._block = AnchoredBlock(center, scale, block_rows(k, d), self.dtype, features.norm)
        cut = tiling(k, n_statistics)
        padded = np.zeros((k, cut.panels * cut.features))
        padded[:, :n_statistics] = natural
        panels = padded.reshape(k, cut.panels, cut.features).transpose(1, 0, 2)
        self._natural = np.ascontiguousarray(panels, dtype=self.dtype)
        self._panel = np.empty((cut.features, cut.rows), dtype=self.dtype)
        self._scores = np.empty((k, cut.rows), dtype=self.dtype)
        self._resp = np.zeros((-(-block_rows(k, d) // cut.rows) * cut.rows, k), dtype=self.dtype)
        self._product = np.empty((cut.features, k), dtype=self.dtype)
        self._sums = np.zeros((cut.panels, cut.features, k))

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._block.load(x)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = η·T."""
        suited = out.dtype == self.dtype and out.flags.c_contiguous
        target = out if suited else np.empty(out.shape, dtype=self.dtype)
        left, right, _ = self._features
        self._compiled.multiply_features(self._natural, self._block.z, left, right, self._panel, self._scores, target)
        if not suited:
            out[...] = target

    def accumulate(self, resp: Array) -> None:
        """Sums += R·Tᵀ for resp (K, b)."""
        self._compiled.transpose_blockwise(np.ascontiguousarray(resp, dtype=self.dtype), self._resp)
        self._resp[resp.shape[1] :] = 0.0
        left, right, _ = self._features
        self._compiled.accumulate_features(
            self._resp, self._block.z, left, right, self._panel, self._product, self._sums
        )

    def sums(self) -> Array:
        """Everything accumulated so far: (K, F) float64."""
        k, n_statistics = self._shape
        return np.ascontiguousarray(self._sums.reshape(-1, k)[:n_statistics].T)
