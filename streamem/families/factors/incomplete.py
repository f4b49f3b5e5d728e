"""Factor components on rows that hold NaN: the density of what was observed, and expected statistics given it.

Given z the features are independent, so what is missing drops out of M = I + Σ_observed λ_jλ_jᵀ/ψ_j, and E[x_j] of a
missing one is m_j + λ_jᵀẑ, with variance ψ_j + λ_jᵀM⁻¹λ_j (Dempster, Laird & Rubin 1977, §4.1.1; Ghahramani & Hinton
1996). Rows that lack the same features share one M; all M of a block are one product of what is observed with the
products λ_jλ_jᵀ/ψ_j, and so are the sums of M⁻¹ over the rows that lack a feature.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.factors.arithmetic import SAFETY, FactorKernel, block_rows_of, kernel_bytes
from streamem.families.factors.posterior import noise_of, typical_terms

Array = NDArray[Any]

MOST_BYTES = 2**22
"""Of the matrices M of a block."""


class Given(NamedTuple):
    """Factors given what was observed of each row, under one component.

    Attributes
    ----------
    means : (b, q) ẑ
    covariances : (u, q, q) M⁻¹ of each pattern
    rows : (b, d) x̃, with expected values in place of what is missing
    log_prob : (b,) in nats, 0 where nothing was observed
    """

    means: Array
    covariances: Array
    rows: Array
    log_prob: Array


class Patterns(NamedTuple):
    """Which features were observed: each set of them once, (u, d) of 1.0 and 0.0, and which of these a row has (b,)."""

    seen: Array
    which: Array


class IncompleteFactorKernel(Kernel):
    """Components N(m_k, Λ_kΛ_kᵀ + Ψ_k) on rows that hold NaN, in float64; blocks without any go with `FactorKernel`.

    Rows without any value have log-densities of 0 and add nothing.
    """

    path, dtype = "float64 products with factors, given what was observed", np.dtype(np.float64)

    def __init__(self, params: Params) -> None:
        self._complete, self._params = FactorKernel(params), params
        self.n_components, self._d, self._q = params.loadings.shape
        size = self._d + 2.0 * float(np.sqrt(self._d * typical_terms(params).max()))
        self.rounding = max(self._complete.rounding, SAFETY * EPS * size)
        self.block_rows = incomplete_block_rows(self.n_components, self._d, self._q)
        self._noise = noise_of(params)
        self._upper = np.triu_indices(self._q)
        self._products = [
            _products(own, noise, self._upper) for own, noise in zip(params.loadings, self._noise, strict=True)
        ]
        self._has_gaps = False
        self._given: dict[int, Given] = {}
        self._begin()

    def restart(self) -> None:
        """Begin anew."""
        self._complete.restart()
        self._begin()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._has_gaps = bool(np.isnan(x).any())
        if self._has_gaps:
            self.load_any(x)
        else:
            self._complete.load(x)

    def load_any(self, x: Array) -> None:
        """Take a block (b, d) of which `given` is asked, whether anything is missing or not."""
        self._lacking = lacking = np.isnan(x)
        self.patterns = patterns_of(lacking)
        self._given.clear()
        self._some = ~lacking.all(axis=1)
        self._x = np.where(lacking, 0.0, (x - self._params.center) / self._params.scale)

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        if not self._has_gaps:
            self._complete.log_prob(out)
            return
        for k in range(self.n_components):
            out[k] = self.given(k).log_prob

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        if not self._has_gaps:
            self._complete.accumulate(resp)
            return
        for k in range(self.n_components):
            self._add(k, np.where(self._some, resp[k], 0.0))

    def stats(self) -> Stats:
        """Expected statistics of all rows; see `FactorGaussian`."""
        complete = self._complete.stats()
        return Stats(**{name: complete[name] + own for name, own in self._sums.items()})

    def given(self, k: int) -> Given:
        """What the loaded rows say of the factors of component k."""
        if k not in self._given:
            self._given[k] = self._conditioned(k)
        return self._given[k]

    def _begin(self) -> None:
        k, d, q = self.n_components, self._d, self._q
        shapes = {"weight": (k,), "x": (k, d), "squares": (k, d), "factors": (k, q)}
        shapes |= {"crossed": (k, d, q), "products": (k, q, q)}
        self._sums: dict[str, Array] = {name: np.zeros(shape) for name, shape in shapes.items()}

    def _conditioned(self, k: int) -> Given:
        loadings, means, noise = (own[k] for own in (self._params.loadings, self._params.means, self._noise))
        seen, which = self.patterns
        precision = np.broadcast_to(np.eye(self._q), (len(seen), self._q, self._q)).copy()
        packed = seen @ self._products[k]
        precision[:, self._upper[0], self._upper[1]] += packed
        precision[:, self._upper[1], self._upper[0]] = precision[:, self._upper[0], self._upper[1]]
        lower = np.linalg.cholesky(precision)
        inverse = np.linalg.inv(lower)
        covariances = np.swapaxes(inverse, 1, 2) @ inverse
        about = np.where(self._lacking, 0.0, self._x - means)
        linear = about @ (loadings / noise[:, None])
        factors = (covariances[which] @ linear[:, :, None])[:, :, 0]
        explained = factors @ loadings.T
        left = np.where(self._lacking, 0.0, about - explained)
        distances = np.square(left) @ (1.0 / noise) + np.einsum("bq,bq->b", factors, factors)
        logs = np.log(2.0 * np.pi * noise) + 2.0 * np.log(self._params.scale)
        log_det = 2.0 * np.log(np.einsum("uqq->uq", lower)).sum(axis=1)
        constants = -0.5 * (seen @ logs + log_det)
        rows = np.where(self._lacking, means + explained, self._x)
        return Given(factors, covariances, rows, constants[which] - 0.5 * distances)

    def _add(self, k: int, weight: Array) -> None:
        given, loadings = self.given(k), self._params.loadings[k]
        seen, which = self.patterns
        counts = np.bincount(which, weights=weight, minlength=len(seen))
        flat = given.covariances.reshape(len(seen), -1)
        absent = (1.0 - seen) * counts[:, None]
        own = (absent.T @ flat).reshape(self._d, self._q, self._q)  # Σ r·M⁻¹ over the rows that lack a feature
        moved = np.einsum("djq,dj->dq", own, loadings)
        weighted = given.means * weight[:, None]
        sums = self._sums
        sums["weight"][k] += weight.sum()
        sums["x"][k] += weight @ given.rows
        lost = absent.sum(axis=0) * self._noise[k] + np.einsum("dq,dq->d", moved, loadings)
        sums["squares"][k] += weight @ np.square(given.rows) + lost
        sums["factors"][k] += weighted.sum(axis=0)
        sums["crossed"][k] += given.rows.T @ weighted + moved
        seen_products = weighted.T @ given.means + (counts @ flat).reshape(self._q, self._q)
        sums["products"][k] += (seen_products + seen_products.T) / 2


def patterns_of(lacking: Array) -> Patterns:
    """The different rows of lacking (b, d) bool."""
    packed = np.packbits(lacking, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return Patterns((~lacking[first]).astype(np.float64), which.ravel())


def incomplete_block_rows(k: int, d: int, q: int) -> int:
    """Rows of a block, whose matrices M may all be different."""
    return max(16, min(block_rows_of(k, d), MOST_BYTES // (8 * q * q)))


def incomplete_bytes(k: int, d: int, q: int) -> int:
    """What the kernel of rows with NaN holds."""
    rows = incomplete_block_rows(k, d, q)
    held = rows * (12 * d + k * (d + q * q + q + 2) + 4 * q * q) + 2 * k * d * (q * q + q + 3)
    return kernel_bytes(k, d, q) + 8 * held


def _products(loadings: Array, noise: Array, upper: tuple[Array, Array]) -> Array:
    """λ_jλ_jᵀ/ψ_j of every feature, the upper triangle: (d, q(q + 1)/2)."""
    return np.asarray(loadings[:, upper[0]] * (loadings / noise[:, None])[:, upper[1]])
