"""Gaussians on rows of which values were not observed: expected statistics, given the values that were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import as_stats, by_variances, origins
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import inverses_of_upper
from streamem.families.gaussian.rounding import SAFETY, difference_rounding
from streamem.kernels.features.features import as_rows
from streamem.kernels.incomplete.groups import (
    GROUP,
    Matrices,
    Variances,
    from_groups,
    groups_for,
    in_groups,
    matrices_in_groups,
    work_bytes,
    work_for,
)

Array = NDArray[Any]


class ConditionalKernel(Kernel):
    """Gaussians N(m_k, Σ_k) on rows that hold NaN: the density of what was observed, and expected statistics.

    E[x_m] = m_m + Σ_mo Σ_oo⁻¹ (x_o − m_o), to whose square the conditional covariance Σ_mm − Σ_mo Σ_oo⁻¹ Σ_om is added
    (Dempster, Laird & Rubin 1977, §4.1.1; Little & Rubin 2002, §11.2). All of it is float64, by differences from the
    means. Rows without any value have log-densities of 0 and add nothing.
    """

    path, dtype = "float64 conditioning", np.dtype(np.float64)

    def __init__(self, structure: Covariance, params: Params) -> None:
        (self._k, self._d), self._structure = params.means.shape, structure
        self.n_components = self._k
        self.rounding = 2.0 * difference_rounding(structure, params) + SAFETY * EPS * self._d
        self._matrices = not by_variances(structure, self._d)
        self._gaussians: Any = gaussians_of(structure, params)  # one or the other, as `_matrices` says
        self._work = work_for(self._d, self._matrices)
        self._x: Array = as_rows(np.empty((0, self._d)))
        self.restart()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._x = as_rows(x)

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        suited = out.dtype == np.float64 and out.flags.c_contiguous
        target = out if suited else np.empty(out.shape)
        if self._matrices:
            constants = np.empty(out.shape)
            self.distances(constants, target)
            target += constants
        else:
            kernels.incomplete_log_prob_by_variances(self._x, self._gaussians, self._work, target)
        if not suited:
            out[...] = target

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        weights = np.ascontiguousarray(resp, dtype=np.float64)
        self.accumulate_scaled(weights, weights)

    def distances(self, constants: Array, out: Array) -> None:
        """out (K, b) = −½ squared distances of what was observed; constants (K, b), the rest of the log-densities."""
        judge = kernels.incomplete_distances if self._matrices else kernels.incomplete_distances_by_variances
        judge(self._x, self._gaussians, self._work, constants, out)

    def accumulate_scaled(self, scaled: Array, resp: Array) -> None:
        """Add moments of the loaded rows for weights `scaled` (K, b), with conditional covariances by resp (K, b)."""
        add = kernels.add_incomplete if self._matrices else kernels.add_incomplete_by_variances
        add(self._x, scaled, resp, self._gaussians, self._work, self._sums, self._moments)

    def fill(self, resp: Array, out: Array) -> None:
        """Add resp (K, b) times conditional means to out (b, d), where the loaded rows lack values."""
        fill = kernels.fill_incomplete if self._matrices else kernels.fill_incomplete_by_variances
        fill(self._x, np.ascontiguousarray(resp, dtype=np.float64), self._gaussians, self._work, out)

    def restart(self) -> None:
        """Begin anew."""
        groups, d = groups_for(self._k), self._d
        self._sums = np.zeros((groups, 1 + d, GROUP))
        columns = d * (d + 1) // 2 if self._matrices else d
        self._moments = np.zeros((1 if self._structure.shared else groups, columns, GROUP))

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M) or (M,)."""
        sums = from_groups(self._sums, self._k)
        if self._structure.shared:
            return as_stats(sums, self._moments[0].sum(axis=1), self._d)
        second = from_groups(self._moments, self._k)
        if self._structure.n_moments(self._d) < self._d:
            second = second.sum(axis=1, keepdims=True)
        return as_stats(sums, second, self._d)


def filled_rows(structure: Covariance, params: Params, x: Array, resp: Array) -> Array:
    """Rows x (n, d) whose NaN are replaced by conditional means, mixed by resp (n, K)."""
    lacking, kernel = np.isnan(x), ConditionalKernel(structure, params)
    out = np.where(lacking, 0.0, x).astype(np.float64)
    for block in kernel.blocks(len(x)):
        kernel.load(x[block])
        kernel.fill(resp[block].T, out[block])
    return out.astype(x.dtype)


def gaussians_of(structure: Covariance, params: Params) -> Matrices | Variances:
    """Parameters as compiled code reads them."""
    question = ("in groups", type(structure))
    return cached_by_identity(
        params.means, params.precisions_cholesky, question, lambda: _gaussians_of(structure, params)
    )


def conditional_bytes(structure: Covariance, k: int, d: int) -> int:
    """What a kernel holds, and its parameters in groups."""
    matrices = not by_variances(structure, d)
    sets = 1 if structure.shared else groups_for(k)
    columns = d * (d + 1) // 2 + 3 * d * d if matrices else 4 * d
    return work_bytes(d, matrices) + 8 * GROUP * (sets * columns + groups_for(k) * (3 * d + 2))


def _gaussians_of(structure: Covariance, params: Params) -> Matrices | Variances:
    k, d = params.means.shape
    center, unscale = params.center.copy(), 1.0 / params.scale
    volumes = np.log(params.scale) + 0.5 * np.log(2.0 * np.pi)
    means, offsets = in_groups(params.means), in_groups(params.means - origins(structure, params))
    if by_variances(structure, d):
        variances = np.ascontiguousarray(structure.variances(params.covariances, k, d))
        factors = in_groups(1.0 / np.sqrt(variances))
        logarithms = in_groups(-0.5 * np.log(variances))
        return Variances(center, unscale, volumes, means, offsets, factors, logarithms, in_groups(variances))
    copies = GROUP if structure.shared else 1
    factors = np.repeat(np.reshape(params.precisions_cholesky, (-1, d, d)), copies, axis=0)
    log_det = np.broadcast_to(structure.log_det(params.precisions_cholesky, d), (k,))
    roots = np.swapaxes(inverses_of_upper(factors), 1, 2)
    return Matrices(
        center,
        unscale,
        volumes,
        means,
        offsets,
        factors=matrices_in_groups(factors),
        roots=matrices_in_groups(roots),
        # Not those of the parameters, which differ by eps·√condition: what the observed features explain is taken off.
        covariances=matrices_in_groups(roots @ np.swapaxes(roots, 1, 2)),
        log_det=in_groups(log_det),
    )
