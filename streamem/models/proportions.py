"""Proportions of components whose likelihoods are known: a mixture of which the weights alone are estimated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.models.mixture import Mixture
from streamem.models.weight_prior import WeightPrior

Array = NDArray[Any]

BLOCK_ROWS = 2048
LEAST, MOST = 1e-150, 1e150
"""Densities between which likelihoods are taken as they are."""
MOST_EXPONENT = 600.0
"""Of the likelihood of a component without weight over that of the mixture, so that its sum stays finite."""


class Likely(NamedTuple):
    """Likelihoods of a block of rows.

    Attributes
    ----------
    known : (b, K) likelihoods, each row divided by exp(peak)
    peak : (b,), or 0 for all
    density : (b,) known times the weights
    """

    known: Array
    peak: Array | float
    density: Array


class Proportions(Mixture):
    """p(x_i) = Σ_k w_k L_ik, with likelihoods L (n, K) that rows hold.

    Parameters
    ----------
    family : how rows hold likelihoods: a family with `checked` and `scale`, such as `KnownLikelihoods`
    n_components : K
    prior : of the weights, or None

    Notes
    -----
    Parameters: weights (K,), which start alike, and components (those of the family). Statistics: gradient (K,),
    Σ_i L_ik/(Lw)_i, and responsibilities w_k·gradient_k. The log-likelihood is concave in w, so EM, w_k ← w_k·mean
    gradient, climbs to its maximum from any start with w > 0 (Titterington, Smith & Makov 1985, §4.3.4; Lindsay 1983):
    a weight of 0 stays. w is a maximum if and only if no component has a mean gradient above 1 (Karush–Kuhn–Tucker),
    and no weights have a mean log-likelihood that is higher by more than the largest mean gradient less 1.
    """

    def __init__(self, family: Any, n_components: int, prior: WeightPrior | None = None) -> None:
        super().__init__(family, n_components, alike, prior)
        self._likelihoods = family

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Equal weights."""
        k = self.n_components
        components = Params(columns=np.arange(k), empty=np.zeros(k, dtype=np.bool_))
        return Params(weights=np.full(k, 1.0 / k), components=components)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """Equal weights."""
        return self.init(sample, np.random.RandomState(0))

    def _expected(self, params: Params, chunk: Chunk) -> Stats:
        weights, k = np.asarray(params.weights, dtype=np.float64), self.n_components
        columns = np.asarray(params.components.columns, dtype=np.intp)
        log_likelihood, gradient = 0.0, np.zeros(k)
        counted = np.ones(chunk.rows) if chunk.weight is None else chunk.weight.astype(np.float64)
        for first in range(0, chunk.rows, BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            known, peak, density = self._likely(chunk.x[block], columns, weights)
            self._require_possible(density, counted[block], first, chunk.x[block])
            inside = density > 0  # rows of weight 0 may be impossible
            own = np.where(inside, counted[block], 0.0)
            density = np.where(inside, density, 1.0)
            log_likelihood += float(own @ (np.log(density) + peak))
            with np.errstate(over="ignore"):
                gradient += np.minimum((own / density) @ known, np.exp(MOST_EXPONENT))
        weight = float(counted.sum())
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=log_likelihood,
            rounding=weight * (k + 8) * EPS + 4 * EPS * abs(log_likelihood),
            gradient=gradient,
            responsibilities=weights * gradient,
            components=Stats(weight=weights * gradient),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Weights in proportion to the responsibilities."""
        counts = stats.responsibilities
        if self.prior is not None:
            counts = self.prior.added(counts, float(stats.weight), previous.weights)
        components = self.family.maximize(stats.components, previous.components)
        return Params(weights=counts / counts.sum(), components=components)

    def for_pass_of(self, params: Params, rows: int) -> Params:
        """The parameters: all passes are alike."""
        return params

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Products of likelihoods and weights, in float64."""
        return "float64 products of likelihoods and weights"

    def workspace_bytes(self, n_features: int) -> int:
        """What a block holds in float64, thrice; answers about rows hold as much as other families'."""
        return super().workspace_bytes(n_features) + 3 * 8 * BLOCK_ROWS * (n_features + 8)

    def statistics_bytes(self, n_features: int) -> int:
        """Three numbers a component, and four scalars."""
        return 8 * (3 * self.n_components + 4)

    def excess(self, stats: Stats) -> float:
        """max_k mean_i L_ik/(Lw)_i − 1 at the parameters of the statistics: 0 at the maximum, up to rounding."""
        return float(np.max(stats.gradient) / stats.weight - 1.0)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _likely(self, x: Array, columns: Array, weights: Array) -> Likely:
        """Likelihoods of rows, as they are where products of them stay far from the ends of floats."""
        rows = self._likelihoods.checked(x)
        if not np.array_equal(columns, np.arange(rows.shape[1])):
            rows = rows[:, columns]
        if self._likelihoods.scale == "plain":
            with np.errstate(over="ignore"):
                density = rows @ weights
            if density.min(initial=1.0) > LEAST and density.max(initial=1.0) < MOST:
                return Likely(rows, 0.0, density)
        known, peak = self._scaled(rows, weights)
        return Likely(known, peak, known @ weights)

    def _scaled(self, rows: Array, weights: Array) -> tuple[Array, Array]:
        """Likelihoods (b, K) of rows over their largest one of a component with weight, and the log of that (b,)."""
        seen = rows[:, weights > 0]
        peak = seen.max(axis=1)
        if self._likelihoods.scale == "log":
            return np.exp(np.minimum(rows - peak[:, None], MOST_EXPONENT)), peak
        possible = peak > 0
        peak = np.where(possible, peak, 1.0)
        with np.errstate(over="ignore"):
            scaled = np.minimum(rows / peak[:, None], np.exp(MOST_EXPONENT))
        return scaled, np.log(peak)

    def _require_possible(self, density: Array, weight: Array, first: int, x: Array) -> None:
        impossible = np.flatnonzero((density == 0) & (weight > 0))
        if len(impossible):
            row = int(impossible[0])
            raise NumericalError(
                f"row {first + row} of the chunk is impossible: its likelihood is 0 under every component that has "
                f"weight (the largest of the row is {float(x[row].max()):.3g}); leave such rows out, or add a "
                "component under which they are possible"
            )


def alike(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    return np.full((len(x), k), 1.0 / k)
