"""The arithmetic of a Gaussian E-step: which kernel runs is a function of the parameters, never of timing.

Products of features are fastest, but they cancel: a term of size |P|·|x̃|² rounds at eps times that. Where the bound
exceeds `ROUNDING_LIMIT`, or the features of a block outgrow memory, differences x − m are formed first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.covariance import Covariance
from streamem.families.exponential import ExponentialKernel, block_rows

Array = NDArray[Any]

ROUNDING_LIMIT = 1e-8
"""Largest bound on the rounding error of a log-density, in nats, at which the feature products are used."""

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""

FEATURES_LIMIT = 2**15
"""Largest number of features at which they are formed: 128 rows of them are 32 MiB."""

DIFFERENCE_BLOCK_BYTES = 2**20


REMEMBERED = 8
"""Parameters of which the conditioning is remembered: several questions about the same ones follow each other."""


class _Conditioning(NamedTuple):
    means: Array
    factor: Array
    value: float


_CONDITIONING: dict[tuple[int, int, bool], _Conditioning] = {}


def n_statistics(structure: Covariance, d: int) -> int:
    """F = 1 + d + M."""
    return 1 + d + structure.n_moments(d)


def gaussian_block_rows(structure: Covariance, d: int) -> int:
    """Rows a block for either kernel."""
    features = n_statistics(structure, d)
    if features <= FEATURES_LIMIT:
        return block_rows(features)
    return int(np.clip(DIFFERENCE_BLOCK_BYTES // (8 * d), 64, 1024))


def uses_differences(structure: Covariance, params: Params) -> bool:
    """Whether products would round too much at these parameters, or would not fit."""
    too_many = n_statistics(structure, params.means.shape[1]) > FEATURES_LIMIT
    return too_many or product_rounding(structure, params) > ROUNDING_LIMIT


def choose_kernel(structure: Covariance, params: Params) -> Kernel:
    """Feature products if they are accurate and fit, else differences."""
    if uses_differences(structure, params):
        return DifferenceKernel(structure, params)
    bound = product_rounding(structure, params)
    return TiedKernel(structure, params, bound) if structure.shared else GaussianKernel(structure, params, bound)


def workspace_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes of the larger kernel that may run at K components and d features, with responsibilities of a block."""
    features, block = n_statistics(structure, d), gaussian_block_rows(structure, d)
    rows = 2 * k + 4 * d if features > FEATURES_LIMIT else 2 * k + 4 * d + features
    matrices = 3 * d * d + 4 * k * (structure.n_moments(d) + d)
    return 8 * (block * rows + matrices)


def conditioning(structure: Covariance, params: Params, about_means: bool = False) -> float:
    """How far the terms of a log-density exceed the log-density itself: max_k ‖(P_ij·r_i·r_j)‖_F, anchored.

    r_i² = m_i² + Σ_ii is the mean square of feature i over rows that component k explains, so the entries are the
    typical terms of the quadratic form x̃ᵀPx̃, and rounding errors add up as their root of squares (Higham & Mary 2019).
    A row far from a component is misjudged by more, but there its density is nil whatever the rounding. With
    `about_means` the terms are those of differences x̃ − m.
    """
    key = (id(params.means), id(params.precisions_cholesky), about_means)
    known = _CONDITIONING.get(key)
    if known is not None and known.means is params.means and known.factor is params.precisions_cholesky:
        return known.value
    k, d = params.means.shape
    spread = structure.variances(params.covariances, k, d) + (0.0 if about_means else params.means**2)
    value = float(structure.term_norms(params.precisions_cholesky, np.sqrt(spread)).max())
    while len(_CONDITIONING) >= REMEMBERED:
        _CONDITIONING.pop(next(iter(_CONDITIONING), key), None)
    _CONDITIONING[key] = _Conditioning(params.means, params.precisions_cholesky, value)
    return value


def moment_rounding(structure: Covariance, params: Params, about_means: bool) -> float:
    """Loss of log-likelihood per row from rounding in the second moments, in nats.

    A covariance from moments has relative error ρ = eps·conditioning in its weakest direction; the log-likelihood is
    stationary there, so the loss is of second order, d·ρ².
    """
    rho = EPS * conditioning(structure, params, about_means)
    return params.means.shape[1] * min(rho, 1.0) ** 2


def product_rounding(structure: Covariance, params: Params) -> float:
    """Bound on the rounding error of a log-density by feature products: eps·conditioning, in nats."""
    return SAFETY * EPS * conditioning(structure, params)


def difference_rounding(structure: Covariance, params: Params) -> float:
    """Bound on the rounding error of a log-density by differences: 8·eps·(d + 2√(d·conditioning)), in nats."""
    d = params.means.shape[1]
    return SAFETY * EPS * (d + 2.0 * float(np.sqrt(d * conditioning(structure, params))))


def log_constants(structure: Covariance, params: Params) -> Array:
    """½ log|P| − d/2 log 2π − log of the anchor's volume: (K,)."""
    k, d = params.means.shape
    constant = structure.log_det(params.precisions_cholesky, d) - 0.5 * d * np.log(2 * np.pi)
    return np.broadcast_to(np.asarray(constant - np.log(params.scale).sum()), (k,))


def _linear(structure: Covariance, params: Params) -> Array:
    """Natural parameters of [1, x̃]: (K, 1 + d)."""
    slopes = structure.precision_times(params.precisions_cholesky, params.means)
    constant = log_constants(structure, params) - 0.5 * np.einsum("kd,kd->k", slopes, params.means)
    return np.column_stack([constant, slopes])


def _as_stats(sums: Array, moments: Array, d: int) -> Stats:
    return Stats(weight=sums[:, 0], first=sums[:, 1 : 1 + d], second=moments)


class GaussianKernel(ExponentialKernel):
    """Full, diagonal and spherical Gaussians by feature products."""

    def __init__(self, structure: Covariance, params: Params, rounding: float) -> None:
        self._d = params.means.shape[1]
        natural = np.hstack([_linear(structure, params), structure.quadratic(params.precisions_cholesky)])
        rounding += moment_rounding(structure, params, about_means=False)
        super().__init__(natural, params.center, params.scale, structure.fill_moments, rounding)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M)."""
        return _as_stats(self.sums, self.sums[:, 1 + self._d :], self._d)


class TiedKernel(ExponentialKernel):
    """A tied Gaussian: the quadratic term is common to all components, so it is one row, not K."""

    def __init__(self, structure: Covariance, params: Params, rounding: float) -> None:
        self._d = d = params.means.shape[1]
        self._quadratic = structure.quadratic(params.precisions_cholesky)
        self._moments = np.zeros(structure.n_moments(d))
        padded = np.hstack([_linear(structure, params), np.zeros((len(params.means), len(self._moments)))])
        rounding += moment_rounding(structure, params, about_means=False)
        super().__init__(padded, params.center, params.scale, structure.fill_moments, rounding)
        self._linear_part = np.ascontiguousarray(padded[:, : 1 + d])
        self._linear_sums = np.zeros_like(self._linear_part)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = linear part + the common quadratic term."""
        np.matmul(self._linear_part, self._block[: 1 + self._d], out=out)
        out += self._quadratic @ self._block[1 + self._d :]

    def accumulate(self, resp: Array) -> None:
        """Linear sums by component, second moments once."""
        self._linear_sums += resp @ self._block[: 1 + self._d].T
        self._moments += self._block[1 + self._d :] @ resp.sum(axis=0)

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (M,)."""
        return _as_stats(self._linear_sums, self._moments, self._d)


class DifferenceKernel:
    """Any Gaussian by differences x̃ − m: about half as fast, accurate however tight and far apart components are.

    Its statistics are moments about the component's *own mean at these parameters*, so they may be added to statistics
    at the same parameters only; `Gaussian.maximize` is given these as `previous`.
    """

    path = "float64 differences"

    def __init__(self, structure: Covariance, params: Params) -> None:
        k, d = params.means.shape
        self._structure, self._params, self._d = structure, params, d
        self.rounding = difference_rounding(structure, params) + moment_rounding(structure, params, about_means=True)
        self._constants = log_constants(structure, params)
        self._sums = np.zeros((k, 1 + d))
        moments = structure.n_moments(d)
        self._moments = np.zeros(moments if structure.shared else (k, moments))
        self._inverse_scale = (1.0 / params.scale)[:, None]  # exact: scales are powers of two
        self._buffers = np.empty((3, d, gaussian_block_rows(structure, d)))
        self._xt, self._difference, self._scratch = self._buffers

    def load(self, x: Array) -> None:
        """The block in the anchored frame, rows last."""
        self._xt, self._difference, self._scratch = self._buffers[:, :, : len(x)]
        np.subtract(x.T, self._params.center[:, None], out=self._xt)
        self._xt *= self._inverse_scale

    def log_prob(self, out: Array) -> None:
        """out[k] = constant − ½ |Uᵀ(x̃ − m)|²."""
        factor = self._params.precisions_cholesky
        for k, mean in enumerate(self._params.means):
            np.subtract(self._xt, mean[:, None], out=self._difference)
            whitened = self._structure.whiten(factor, k, self._difference, self._scratch)
            np.einsum("db,db->b", whitened, whitened, out=out[k])
        out *= -0.5
        out += self._constants[:, None]

    def accumulate(self, resp: Array) -> None:
        """Sums of the loaded rows about each component's mean."""
        self._sums[:, 0] += resp.sum(axis=1)
        for k, mean in enumerate(self._params.means):
            np.subtract(self._xt, mean[:, None], out=self._difference)
            self._sums[k, 1:] += self._difference @ resp[k]
            moments = self._structure.weighted_moments(self._difference, resp[k], self._scratch)
            if self._structure.shared:
                self._moments += moments
            else:
                self._moments[k] += moments

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M) or (M,)."""
        return _as_stats(self._sums, self._moments, self._d)
