"""Densities of heavy tails around any kernel of squared distances: log p = constant − power·log(1 + δ/ν)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.numerics import negligible
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.kernels.features.diagonal_rows import add_diagonal_sums
from streamem.kernels.features.exponential import NO_WEIGHTS, ExponentialKernel
from streamem.kernels.features.features import as_rows
from streamem.kernels.features.heavy_tails import HeavyTails, Tails, tails_of
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]


class HeavyTailsKernel(Kernel):
    """A kernel whose log-densities are −½δ, with heavy tails; block by block.

    Its statistics are Σ r, what the inner kernel sums with r·u for r, u = (ν + d)/(ν + δ), and Σ r·E[log w] of a
    precision w ~ Γ(½(ν + d), ½(ν + δ)), whose mean is u.

    Parameters
    ----------
    inner : of squared distances
    dofs : (K,) ν > 0; infinite for a Gaussian
    constants : (K,) log-densities where δ = 0, in nats
    expected : (K,) E[log w] + log(1 + δ/ν), which does not depend on δ
    d : number of features
    rounding : bound on the rounding error of one log-density, in nats
    """

    def __init__(self, inner: Kernel, dofs: Array, constants: Array, expected: Array, d: int, rounding: float) -> None:
        self._inner, self._expected, self._d = inner, expected, d
        self.dtype, self.path, self.rounding = inner.dtype, inner.path, rounding
        self.float32_products = inner.float32_products
        self._tails = tails_of(dofs, constants, d, self.dtype)
        self._sums = np.zeros((2, len(dofs)))
        self._rows, self._is_bent = 0, False
        self._precisions: Array = np.empty((len(dofs), 0), dtype=self.dtype)
        self._logs = self._precisions

    @property
    def reusable(self) -> bool:
        """Whether the inner kernel is."""
        return self._inner.reusable

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._inner.load(x)
        self._rows, self._is_bent = len(x), False

    def log_prob(self, out: Array) -> None:
        """out (K, b)."""
        suited = out.dtype == self.dtype and out.flags.c_contiguous
        target = out if suited else np.empty(out.shape, dtype=self.dtype)
        self._inner.log_prob(target)
        self._precisions, self._logs = np.empty((2, *target.shape), dtype=self.dtype)
        kernels.bend(target, self._tails, self._precisions, self._logs)
        self._is_bent = True
        if not suited:
            out[...] = target

    def accumulate(self, resp: Array) -> None:
        """Sums of the loaded rows, for resp (K, b)."""
        if not self._is_bent:
            self.log_prob(np.empty((self._sums.shape[1], self._rows), dtype=self.dtype))
        weighted, ones = np.array(resp, dtype=self.dtype, order="C"), np.ones(self._rows, dtype=self.dtype)
        kernels.weigh(weighted, self._rows, self._precisions, self._logs, ones, self._sums)
        self._inner.accumulate(weighted)

    def restart(self) -> None:
        """Begin anew."""
        self._inner.restart()
        self._sums = np.zeros_like(self._sums)

    def stats(self) -> Stats:
        """weight (K,), log_precision (K,) and scaled, the statistics of the inner kernel with r·u for r."""
        weight, logs = self._sums.copy()
        return Stats(weight=weight, log_precision=weight * self._expected - logs, scaled=self._inner.stats())


class HeavyTailsOfProducts(HeavyTailsKernel):
    """Heavy tails around products of features, many rows in one call."""

    _inner: ExponentialKernel

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), block by block, and their statistics."""
        before, rows = self._sums[0].copy(), as_rows(x)
        weights = NO_WEIGHTS if weight is None else as_rows(weight)
        log_likelihood, pairs = self._mixed(rows, weights, log_weights)
        if not (np.isfinite(self._sums).all() and np.isfinite(self._inner.panel_sums).all()):
            log_likelihood = np.nan
        return MixtureSums(log_likelihood, pairs, self._sums[0] - before)

    def _mixed(self, x: Array, weight: Array, log_weights: Array) -> tuple[float, float]:
        """Log-likelihood and number of active pairs; adds to all sums."""
        diagonal = self._inner.diagonal
        if diagonal is None:
            place = self._inner.workplace
            steps = self._inner_steps()
            return self._pass(x, weight, log_weights, steps, self._tails, place.joint, place.scratch)
        own, (joint, scratch) = diagonal.rows(self._d), diagonal.buffers()
        tails = self._tails._replace(shifts=diagonal.constants.astype(self.dtype))
        found = self._pass(x, weight, log_weights, own, tails, joint, scratch)
        add_diagonal_sums(own, self._d, self._inner.panel_sums[0])
        return found

    def _pass(
        self, x: Array, weight: Array, log_weights: Array, inner: Any, tails: Tails, joint: Array, scratch: Array
    ) -> tuple[float, float]:
        precisions = thread_buffer("precisions", (len(joint),), self.dtype)
        logs = thread_buffer("log precisions", (len(joint),), self.dtype)
        ones = np.ones(scratch.shape[1], dtype=self.dtype)
        own = HeavyTails(inner, tails, precisions, logs, ones, self._sums)
        least = self.dtype.type(negligible(len(log_weights)))
        _, log_likelihood, pairs = kernels.mixture_pass(
            x, weight, log_weights.astype(self.dtype), own, joint, scratch, least
        )
        return log_likelihood, pairs

    def _inner_steps(self) -> Any:
        """The steps of squared distances, which add to the sums of the inner kernel."""
        return self._inner.feature_sums(self._inner.workplace.products)
