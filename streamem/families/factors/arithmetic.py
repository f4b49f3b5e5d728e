"""The kernel of factor components on complete rows: four products of a block with matrices of q columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.factors.posterior import noise_of, posterior_of, typical_terms

Array = NDArray[Any]

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""

BLOCK_BYTES = 2**19
"""Of the rows of a block in float64, which are read four times; so are their squares twice."""

MOST_FOLDED = 200.0
"""Powers of two by which units may differ from 1 where squares of rows are taken in units of the data."""

MOST_TERMS = 1e4
"""Times a log-density that the squares of a feature may be in it, in the mean, where sums of squares lose no digits."""


def block_rows_of(k: int, d: int) -> int:
    """Rows of a block."""
    return max(128, min(4096, BLOCK_BYTES // (8 * (d + 2 * k)) // 16 * 16))


class FactorKernel(Kernel):
    """Components N(m_k, Λ_kΛ_kᵀ + Ψ_k) on complete rows, in float64.

    Where squares about the anchor are not much larger than the noise, distances are x̃²·Ψ⁻¹ less what the factors
    explain; elsewhere they are sums of squares of what the factors leave, (x̃ − m − Λẑ)²·Ψ⁻¹ + |ẑ|², the same number
    without the difference (Woodbury), for one product and some passes more.
    """

    path, dtype = "float64 products with factors", np.dtype(np.float64)

    def __init__(self, params: Params) -> None:
        self.n_components, self._d, self._q = params.loadings.shape
        self._params, self._posterior = params, posterior_of(params)
        self._precisions = 1.0 / noise_of(params)
        # Scales are powers of two: to multiply matrices and sums by them, instead of rows, changes no digit.
        finer = 1.0 / np.asarray(params.scale)
        folded = bool((np.abs(np.log2(finer)) < MOST_FOLDED).all())
        self._row_factor = None if folded else finer
        self._unit = finer if folded else np.ones(self._d)
        terms = typical_terms(params)
        self.by_squares = bool((terms <= MOST_TERMS * self._d).all())
        size = terms.max() if self.by_squares else self._d + 2.0 * np.sqrt(self._d * terms.max())
        self.rounding = float(SAFETY * EPS * (size + np.abs(self._posterior.constants).max() / self._d))
        self._products()
        self.block_rows = block_rows_of(self.n_components, self._d)
        self._held = np.empty((2, 0, self._d))
        self._held_weights = np.empty((self.n_components, self._q + 1, 0))
        self.restart()

    def _products(self) -> None:
        """Matrices with which blocks are multiplied, and what the means add to the products."""
        p, known = self._params, self._posterior
        linear = (p.means * self._precisions)[:, :, None]
        both = np.concatenate([known.whitening, linear], axis=2) if self.by_squares else known.whitening
        turned = both.transpose(1, 0, 2).reshape(self._d, -1)
        self._turned = np.ascontiguousarray(turned * self._unit[:, None])
        self._of_squares = self._precisions * self._unit**2
        self._at_means = np.einsum("kdq,kd->kq", known.whitening, p.means)
        self._of_means = (p.means**2 * self._precisions).sum(axis=1)

    def restart(self) -> None:
        """Begin anew."""
        k, d, q = self.n_components, self._d, self._q
        self._sums = np.zeros((k * (q + 1), d))
        self._squares, self._weights = np.zeros((k, d)), np.zeros(k)
        self._scores, self._score_products = np.zeros((k, q)), np.zeros((k, q, q))

    def load(self, x: Array) -> None:
        """Take the next block (b, d), about the anchor."""
        rows = len(x)
        if self._held.shape[1] < rows:
            self._held = np.empty((2, rows, self._d))
        self._x, self._x2 = self._held[:, :rows]
        np.subtract(x, self._params.center, out=self._x)
        if self._row_factor is not None:
            np.multiply(self._x, self._row_factor, out=self._x)
        np.multiply(self._x, self._x, out=self._x2)
        self._found: tuple[Array, Array] | None = None

    def log_prob(self, out: Array) -> None:
        """Log-densities (K, b) in nats."""
        _, distances = self._scored()
        out[...] = self._posterior.constants[:, None] - 0.5 * distances

    def accumulate(self, resp: Array) -> None:
        """Add the statistics of the loaded rows weighted by resp (K, b)."""
        whitened, _ = self._scored()
        k, q, rows = whitened.shape
        if self._held_weights.shape[2] != rows:
            self._held_weights = np.empty((k, q + 1, rows))
        weighted = self._held_weights
        np.multiply(whitened, resp[:, None], out=weighted[:, :q])
        weighted[:, q] = resp
        self._sums += weighted.reshape(k * (q + 1), rows) @ self._x
        self._squares += weighted[:, q] @ self._x2
        self._weights += weighted[:, q].sum(axis=1)
        self._scores += weighted[:, :q].sum(axis=2)
        self._score_products += weighted[:, :q] @ np.swapaxes(whitened, 1, 2)

    def stats(self) -> Stats:
        """Expected statistics of all rows; see `FactorGaussian`."""
        sums = (self._sums * self._unit).reshape(self.n_components, self._q + 1, self._d)
        back = self._posterior.unwhitening
        turned = np.swapaxes(back, 1, 2)
        seen = turned @ self._score_products @ back
        return Stats(
            weight=self._weights.copy(),
            x=sums[:, self._q].copy(),
            squares=self._squares * self._unit**2,
            factors=(turned @ self._scores[:, :, None])[:, :, 0],
            crossed=np.swapaxes(sums[:, : self._q], 1, 2) @ back,
            products=self._weights[:, None, None] * self._posterior.covariance + (seen + np.swapaxes(seen, 1, 2)) / 2,
        )

    def _scored(self) -> tuple[Array, Array]:
        """u (K, q, b) and squared distances (K, b) of the loaded rows."""
        if self._found is None:
            self._found = self._by_squares() if self.by_squares else self._by_remainders()
        return self._found

    def _by_squares(self) -> tuple[Array, Array]:
        k, q, rows = self.n_components, self._q, len(self._x)
        found = np.ascontiguousarray((self._x @ self._turned).T).reshape(k, q + 1, rows)
        whitened = found[:, :q]
        whitened -= self._at_means[:, :, None]
        distances = np.ascontiguousarray((self._x2 @ self._of_squares.T).T)
        distances += self._of_means[:, None] - 2.0 * found[:, q]
        distances -= np.einsum("kqb,kqb->kb", whitened, whitened)
        return whitened, distances

    def _by_remainders(self) -> tuple[Array, Array]:
        k, q, rows = self.n_components, self._q, len(self._x)
        whitened, distances = np.empty((k, q, rows)), np.empty((k, rows))
        for i in range(k):
            about = self._x * self._unit - self._params.means[i]
            np.matmul(self._posterior.whitening[i].T, about.T, out=whitened[i])
            factors = self._posterior.unwhitening[i].T @ whitened[i]
            about -= factors.T @ self._params.loadings[i].T
            distances[i] = np.square(about) @ self._precisions[i] + np.einsum("qb,qb->b", factors, factors)
        return whitened, distances


def kernel_bytes(k: int, d: int, q: int) -> int:
    """What a kernel on complete rows holds."""
    rows = block_rows_of(k, d)
    return 8 * (rows * (4 * d + k * (3 * q + 6)) + 3 * k * d * (q + 3) + 6 * k * q * q)
