"""The E-step of an exponential family as two products of matrices.

With features T(x) (F, b) and natural parameters η (K, F), the log-densities of a block are η·T and its statistics R·Tᵀ
(Wainwright & Jordan 2008, §3). Rows lie last, so that features are filled by contiguous vector operations.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.numerics import negligible
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.kernels.features.diagonal_rows import DiagonalParams, diagonal_params_of, suits_rows
from streamem.kernels.features.feature_sums import FeatureSums
from streamem.kernels.features.features import AnchoredBlock, Features, as_rows
from streamem.kernels.tiling import Products, block_rows, products_of, tiling
from streamem.machine.lanes import fill_in_lanes, in_lanes
from streamem.machine.thread_buffer import empty_lines, thread_buffer, thread_buffers

Array = NDArray[Any]

NO_WEIGHTS = as_rows(np.empty(0))


class Workplace(NamedTuple):
    """What an E-step block by block works with.

    Attributes
    ----------
    products : natural parameters and their buffers
    joint : (K · rows of a block,) log-densities
    scratch : (3, rows of a block)
    resp, product : responsibilities of whole tiles (rows, K), and their product with a panel
    """

    products: Products
    joint: Array
    scratch: Array
    resp: Array
    product: Array


class ExponentialKernel(Kernel):
    """A family whose features are products of pairs, at fixed natural parameters; x̃ = (x − center) / scale.

    Parameters
    ----------
    panels : natural parameters, cut by `panels_of`; products have their dtype, sums are float64 beyond a tile of rows
    features : the F features
    center, scale : (d,) the anchor
    rounding : bound on the rounding error of one log-density, in nats
    """

    def __init__(self, panels: Array, features: Features, center: Array, scale: Array, rounding: float) -> None:
        self.dtype, self.rounding = panels.dtype, rounding
        self.path = f"{self.dtype.name} products"
        self.float32_products = self.dtype == np.float32
        n_panels, k, features_of_panel = panels.shape
        self._panels, self._features, self._center, self._scale = panels, features, center, scale
        self._rows = block_rows(k, len(center), self.dtype.itemsize)
        self._tile = tiling(k, len(features.left)).rows
        self._block = AnchoredBlock(center, scale, self._rows, self.dtype, features.norm)
        self._shape = (n_panels, features_of_panel, k)

    @cached_property
    def _sums(self) -> Array:
        """Made when they are needed: to tell densities they are not."""
        return np.zeros(self._shape)

    @property
    def panel_sums(self) -> Array:
        """Statistics so far (panels, features of a panel, K), for passes that add to them."""
        return self._sums

    @property
    def z(self) -> Array:
        """[1, x̃] of the loaded rows (1 + d, b), perhaps followed by |x̃|²."""
        return self._block.z

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._block.load(x)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = η·T."""
        suited = out.dtype == self.dtype and out.flags.c_contiguous
        target = out if suited else np.empty(out.shape, dtype=self.dtype)
        kernels.multiply_features(self._block_products, self._block.z, target)
        if not suited:
            out[...] = target

    def accumulate(self, resp: Array) -> None:
        """Sums += R·Tᵀ for resp (K, b)."""
        posterior = np.ascontiguousarray(resp, dtype=self.dtype)
        kernels.accumulate_posterior(
            posterior, self._block_products, self._block.z, *self._resp_buffers, self._sums, False
        )

    def restart(self) -> None:
        """Begin anew."""
        self._sums = np.zeros_like(self._sums)

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), block by block, and their statistics."""
        before = self._sums[0, 0].copy()
        rows, weights = as_rows(x), NO_WEIGHTS if weight is None else as_rows(weight)
        least = self.dtype.type(negligible(len(log_weights)))
        if self.diagonal is not None:
            log_likelihood, pairs = self.diagonal.mix(rows, weights, log_weights, least, self._sums[0])
        else:
            place, sums = self.workplace, self.feature_sums(self.workplace.products)
            _, log_likelihood, pairs = kernels.mixture_pass(
                rows, weights, log_weights.astype(self.dtype), sums, place.joint, place.scratch, least
            )
        if not np.isfinite(self._sums).all():  # a log-density may be finite whose squares are not
            log_likelihood = np.nan
        return MixtureSums(log_likelihood, pairs, self._sums[0, 0] - before)  # the first feature is 1

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        k, own = self._shape[2], self.feature_sums(self._held_products)
        joint = thread_buffer("joint", (k * self._rows,), self.dtype)
        fill_in_lanes(b, lambda b: kernels.densities_pass(as_rows(x), k, own, joint, b, peaks))

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        own = self.feature_sums(self._held_products)
        kernels.statistics_pass(as_rows(x), in_lanes(weights), own, self._rows, again)

    @cached_property
    def diagonal(self) -> DiagonalParams | None:
        """Where rows stay as they lie."""
        k, d = self._shape[2], len(self._center)
        if not (self._features.squares and suits_rows(k, d * self.dtype.itemsize)):
            return None
        return diagonal_params_of(self._panels[0], self._center, 1.0 / self._scale)

    @property
    def _rows_of_pass(self) -> int:
        """Rows of a block of a mixture: a tile, if one panel holds all features, which are not filled twice then."""
        return self._tile if self._tile and self._shape[0] == 1 else self._rows

    @cached_property
    def workplace(self) -> Workplace:
        """Products and buffers of this thread."""
        k, rows = self._shape[2], self._rows_of_pass
        joint, sums = thread_buffers(("joint", (k * rows,), self.dtype), ("row sums", (3, rows), self.dtype))
        return Workplace(self._block_products, joint, sums, *self._resp_buffers)

    @cached_property
    def _held_products(self) -> Products:
        """Products whose rows stay loaded: with a row buffer of their own."""
        products = self._block_products
        return products._replace(z_buffer=empty_lines(products.z_buffer.shape, self.dtype))

    def feature_sums(self, products: Products) -> FeatureSums:
        """What passes add to, with buffers of this thread."""
        return FeatureSums(products, *self._resp_buffers, self._sums, self._rows_of_pass <= self._tile)

    @cached_property
    def _block_products(self) -> Products:
        """Products with buffers of the thread that runs this kernel, for one block after the other."""
        return products_of(self._panels, self._features, self._center, self._scale, max(self._rows, self._tile))

    @cached_property
    def _resp_buffers(self) -> tuple[Array, Array]:
        """Responsibilities of whole tiles (rows, K), and their product with a panel."""
        _, features_of_panel, k = self._shape
        rows = -(-self._rows // self._tile) * self._tile if self._tile else self._rows
        wanted = ("resp", (rows, k), self.dtype), ("product", (features_of_panel, k), self.dtype)
        resp, product = thread_buffers(*wanted)
        return resp, product

    def stats(self) -> Stats:
        """sums (K, F)."""
        return Stats(sums=self.sums())

    def sums(self) -> Array:
        """Sums of all statistics so far (K, F), float64."""
        k = self._shape[2]
        return np.ascontiguousarray(self._sums.reshape(-1, k)[: len(self._features.left)].T)
