"""A mixture of regressions whose weights depend on concomitant variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.extremes import far_rounding
from streamem.core.faults import missing
from streamem.core.missing import Missing
from streamem.core.numerics import EPS, normalize_log_rows
from streamem.core.ports import Family, Kernel
from streamem.core.stats import Stats
from streamem.kernels.plain_kernel import reused_kernel
from streamem.models.concomitants import EXPANSION, Concomitants
from streamem.models.far_rows import no_density
from streamem.models.logit_moves import log_moves
from streamem.models.mixture import Responsibilities
from streamem.models.regression_mixture import RegressionMixture

Array = NDArray[Any]


class ConcomitantMixture(RegressionMixture):
    """p(y | x, z) = Σ_k π_k(z) p_k(y | x), with π_k(z) = softmax(α_k + z·γ_k) (Grün & Leisch 2008, equation 1).

    Parameters
    ----------
    family, n_components, start : as in `Mixture`
    n_covariates : p, columns of `Chunk.covariates`
    box : (2, p) smallest and largest concomitants of all rows, or None for those of the sample of the start

    Notes
    -----
    Parameters: those of `Mixture`, of which weights (K,) are shares of all rows; logits (K, 1 + p) and
    concomitant_box (2, p). Statistics: those of `Mixture`, curvature (K(1 + p), K(1 + p)) and target (K(1 + p),). A row
    that lacks a response, a covariate or a concomitant says nothing; where z is known, π(z) is told all the same.
    """

    def __init__(
        self, family: Family, n_components: int, start: Responsibilities, n_covariates: int, box: Array | None = None
    ) -> None:
        super().__init__(family, n_components, start)
        self.concomitants = Concomitants(n_components, n_covariates, box)

    # --- the Model port ----------------------------------------------------------------------------------------------

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The start of a mixture, whose weights are the same in all rows."""
        return self.concomitants.begun(super().init(sample, rng), sample)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """The anchor, and equal weights in all rows."""
        params = super().anchor_only(sample)
        return None if params is None else self.concomitants.begun(params, sample)

    def _expected(self, params: Params, chunk: Chunk) -> Stats:
        dtype = chunk.x.dtype
        kernel = reused_kernel(self, params, dtype, lambda: self._kernel(params, dtype))
        rows, chunk = chunk.rows, self._observed(chunk)
        weight = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        work, design = self.concomitants.sums(params), self.concomitants.rows(params, chunk)
        log_likelihood, pairs, counts = 0.0, 0.0, np.zeros(self.n_components)
        for block in kernel.blocks(chunk.rows):
            moves = log_moves(np.asarray(params.logits)[None], design[block])
            resp, density, active = self._posterior_of(kernel, chunk.x, block, moves[:, 0])
            resp *= weight[block]
            kernel.accumulate(resp)
            work.add(np.ascontiguousarray(resp.T)[:, None], moves, design[block])
            log_likelihood += float(weight[block] @ density)
            pairs += float(weight[block] @ active)
            counts += resp.sum(axis=1)
        total = float(weight.sum())
        return Stats(
            rows=rows,
            weight=total,
            log_likelihood=log_likelihood,
            rounding=total * (kernel.rounding + self._log_rounding) + far_rounding(kernel, log_likelihood),
            pairs=pairs,
            responsibilities=counts,
            components=kernel.stats(),
            **self.concomitants.told(work),
        )

    def _posterior_of(self, kernel: Kernel, x: Array, block: slice, log_weights: Array) -> tuple[Array, Array, Array]:
        """Responsibilities (K, b) of a block, log-densities (b,) and how many components of each row matter (b,)."""
        found = np.empty((self.n_components, block.stop - block.start), dtype=kernel.dtype)
        kernel.load(x[block])
        kernel.log_prob(found)
        found += log_weights.T
        known = normalize_log_rows(found, np.zeros(self.n_components))
        if not (finite := np.isfinite(known.log_density)).all():
            row = int(np.argmin(finite))
            raise no_density(block.start + row, x[block][row], self.family.overflows)
        return found, known.log_density, known.active

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Shares of the responsibilities, a safe Newton step for the logits; the family maximizes the rest."""
        return super().m_step(stats, previous).replace(**self.concomitants.maximized(stats, previous))

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Counts as counts; the last expansion where the curvature of the extrapolated one is not such."""
        beside = {name: valid[name] for name in EXPANSION}
        found = super().project(stats.replace(**beside), valid, previous)
        return found.replace(**self.concomitants.plausible(stats, valid))

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """The family's arithmetic, and weights of each row."""
        return f"{self.family.arithmetic(params.components, dtype)}, weights of each row"

    def workspace_bytes(self, n_features: int) -> int:
        """The workspace of a mixture, and of concomitants, their products and spreads."""
        return super().workspace_bytes(n_features) + self.concomitants.workspace_bytes

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics of a mixture, and of the expansion."""
        return super().statistics_bytes(n_features) + self.concomitants.statistics_bytes

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """Components that concomitants separate, and what the family says."""
        return self.concomitants.no_maximum(params, weight) or super().no_maximum(params, log_likelihood, weight)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Weights that are none, logits of other shapes, and what the family finds wrong."""
        if found := missing(params, ("weights", "components", "logits", "concomitant_box")):
            return found
        return self.concomitants.faults(params) + super().faults(params, n_components, n_features)

    # --- what a fitted mixture says of rows --------------------------------------------------------------------------

    def prior_probabilities(self, params: Params, chunk: Chunk) -> Array:
        """π(z) of every row (n, K); the average weights where a concomitant is missing."""
        return np.exp(self._log_weights_of(params, chunk))

    # --- inner -------------------------------------------------------------------------------------------------------

    @property
    def _log_rounding(self) -> float:
        """Rounding of the log-weight of one row."""
        return 16 * (self.n_components + 4) * EPS

    def _log_weights_of(self, params: Params, chunk: Chunk) -> Array:
        return self.concomitants.log_weights(params, self.concomitants.rows(params, chunk))

    def _log_weights(self, params: Params) -> Array:
        """0 of every component: `_densities` holds the weights already."""
        return np.zeros(self.n_components)

    def _far_weights(self, params: Params, chunk: Chunk, rows: Array) -> Array:
        part = replace(chunk, x=chunk.x[rows], weight=None, covariates=chunk.beside(rows))
        return self._log_weights_of(params, part)

    def _densities(self, params: Params, chunk: Chunk) -> Iterator[tuple[slice, Array]]:
        """For every block, log π_k(z) + log p_k(x) as (K, b)."""
        log_weights = self._log_weights_of(params, chunk).T
        for block, log_prob in super()._densities(params, chunk):
            yield block, np.ascontiguousarray(log_prob + log_weights[:, block])

    def _screen(self, params: Params, dtype: DTypeLike) -> None:
        """Give no screen: weights differ from row to row."""
        return

    def _observed(self, chunk: Chunk) -> Chunk:
        """The rows that lack nothing."""
        if self.missing is not Missing.VALUES or chunk.covariates is None:
            return chunk
        lacking = np.isnan(chunk.x).any(axis=1) | np.isnan(chunk.covariates).any(axis=1)
        if not lacking.any():
            return chunk
        weight = None if chunk.weight is None else chunk.weight[~lacking]
        return replace(chunk, x=chunk.x[~lacking], weight=weight, covariates=chunk.beside(~lacking))
