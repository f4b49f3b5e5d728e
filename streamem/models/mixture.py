"""The finite mixture: every row is drawn from one of K components, independently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.extremes import balanced, expected, far_rounding
from streamem.core.faults import missing, shares, within
from streamem.core.missing import Missing
from streamem.core.numerics import Normalized, normalize_log_rows, small_buffers
from streamem.core.ports import Family, Kernel, Mixing, MixtureSums, full_family, kernel_of
from streamem.core.small_work import in_numpy
from streamem.core.stats import Stats
from streamem.kernels.plain_kernel import reused_kernel
from streamem.models.by_size import by_size
from streamem.models.far_rows import FarRows, judged_far, no_density, remedy
from streamem.models.forwards_to_family import ForwardsToFamily
from streamem.models.imputing import completed_rows
from streamem.models.observed import covered, observed
from streamem.models.steps import missing_rows
from streamem.models.weight_prior import WeightPrior

Array = NDArray[Any]
Responsibilities = Callable[[Array, Array | None, int, np.random.RandomState], Array]
"""(x (n, d), weight (n,) or None, K, rng) → responsibilities (n, K) to start from."""


class Mixture(ForwardsToFamily):
    """p(x) = Σ_k w_k p_k(x), with components of any `Family`.

    Parameters
    ----------
    family : what a component emits
    n_components : K
    start : responsibilities of a sample, from which the first parameters are estimated
    prior : of the weights, or None

    Notes
    -----
    Parameters: weights (K,), components (those of the family), and active, the number of components of a row that
    had more than a rounding error of its responsibility in the statistics from which these parameters come: where that
    is small, a `Screenable` family computes no others. E- and M-step: McLachlan & Peel 2000, §2.8.

    Where the family integrates over missing values, a row without any has log-density 0, and adds to ``rows`` only.
    """

    def __init__(
        self, family: Family, n_components: int, start: Responsibilities, prior: WeightPrior | None = None
    ) -> None:
        self.family = full_family(family)
        self.n_components = n_components
        self.prior = prior
        self._start = start

    @by_size
    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """One M-step from the starting responsibilities of a sample."""
        sample, _ = balanced(sample)
        sample = self._observed(sample)
        previous = self.anchor_only(sample)
        resp = covered(sample.x, self._start(sample.x, sample.weight, self.n_components, rng))
        if sample.weight is not None:
            resp = resp * sample.weight[:, None]
        family_previous = None if previous is None else previous.components
        components = self.family.stats(family_previous, sample.x, resp)
        stats = Stats(responsibilities=resp.sum(axis=0), components=components)
        return self._maximize(stats, family_previous)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """Equal weights and the family's `start`, whose anchor alone means something; None if it has none."""
        sample = self._observed(sample)
        components = self.family.start(sample.x, sample.weight, self.n_components)
        if components is None:
            return None
        weights = np.full(self.n_components, 1 / self.n_components)
        return Params(weights=weights, components=components, active=np.float64(self.n_components))

    @by_size
    @small_buffers
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """responsibilities (K,), components, and the four scalars that every model carries."""
        return expected(chunk, lambda chunk: self._expected(params, chunk))

    def _expected(self, params: Params, chunk: Chunk) -> Stats:
        dtype = chunk.x.dtype
        kernel = reused_kernel(self, params, dtype, lambda: self._fastest(params, dtype))
        rows, chunk = chunk.rows, self._observed(chunk)
        sums = self._mix(kernel, params, chunk)
        weight = float(chunk.rows) if chunk.weight is None else float(chunk.weight.sum())
        return Stats(
            rows=rows,
            weight=weight,
            log_likelihood=sums.log_likelihood,
            rounding=weight * kernel.rounding + far_rounding(kernel, sums.log_likelihood),
            pairs=sums.pairs,
            responsibilities=sums.responsibilities,
            components=kernel.stats(),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Weights in proportion to the responsibilities; the family maximizes the rest."""
        return self._maximize(stats, previous.components, previous.weights)

    @property
    def has_prior(self) -> bool:
        """Whether the weights have."""
        return self.prior is not None

    def penalty(self, params: Params, stats: Stats) -> float:
        """The family's penalty, and that of the prior of the weights, in nats."""
        own = 0.0 if self.prior is None else self.prior.penalty(params.weights, float(stats.weight))
        return own + super().penalty(params, stats)

    def weight_of(self, chunk: Chunk) -> float:
        """Weight of the rows of a chunk that say something."""
        known = self._observed(chunk)
        return float(known.rows) if known.weight is None else float(known.weight.sum())

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic an E-step runs at these parameters on rows of `dtype`, in words."""
        screen = self._screen(params, dtype)
        return self.family.arithmetic(params.components, dtype) if screen is None else screen.path

    def workspace_bytes(self, n_features: int) -> int:
        """The family's, responsibilities of a block included."""
        return self.family.workspace_bytes(self.n_components, n_features)

    def statistics_bytes(self, n_features: int) -> int:
        """The family's statistics, the responsibilities, and four scalars."""
        return 8 * (self.n_components + 4) + self.family.statistics_bytes(self.n_components, n_features)

    def shares(self, params: Params) -> Array:
        """The weights (K,)."""
        return np.asarray(params.weights)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """The family's interventions."""
        return self.family.degenerate(params.components)

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """What the family says."""
        return self.family.no_maximum(params.components, log_likelihood, weight)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Weights that are none, and what the family finds wrong."""
        if found := missing(params, ("weights", "components")):
            return found
        found = shares("weights", params.weights, (n_components,))
        found += within("active", params.active, (), 0.0) if "active" in params else []
        return found + self._family_faults(params, n_components, n_features)

    # --- what a fitted mixture says of rows --------------------------------------------------------------------------

    @by_size
    @small_buffers
    def labels(self, params: Params, chunk: Chunk) -> Array:
        """The most probable component of every row: (n,) int64."""
        out = np.empty(chunk.rows, dtype=np.int64)
        log_weights = self._log_weights(params)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            for block, log_prob in self._densities(params, chunk):
                joint = log_prob + log_weights
                labels = np.argmax(joint, axis=0)  # of a NaN, if there is one
                out[block] = labels
                if (far := _lost(joint[labels, np.arange(joint.shape[1])])) is not None:
                    out[block][far] = self._far(params, chunk, block, far).labels
        return out

    @by_size
    @small_buffers
    def responsibilities(self, params: Params, chunk: Chunk) -> Array:
        """Posterior probability of every component: (n, K)."""
        out = np.empty((chunk.rows, self.n_terms))
        with np.errstate(over="ignore", invalid="ignore"):
            for block, resp, known in self._posterior(self._densities(params, chunk), params, chunk.x, strict=False):
                out[block] = resp.T
                if (far := _lost(known.log_density)) is not None:
                    out[block][far, : self.n_components] = self._far(params, chunk, block, far).responsibilities
        return out

    @by_size
    @small_buffers
    def log_density(self, params: Params, chunk: Chunk) -> Array:
        """log p(x) of every row, in nats: (n,); −∞ where it is below what float64 holds."""
        out = np.empty(chunk.rows)
        with np.errstate(over="ignore", invalid="ignore"):
            for block, _, known in self._posterior(self._densities(params, chunk), params, chunk.x, strict=False):
                out[block] = known.log_density
                if (far := _lost(known.log_density)) is not None:
                    out[block][far] = self._far(params, chunk, block, far).log_density
        if self.missing is Missing.VALUES and (missing := missing_rows(chunk.x)) is not None:
            out[missing] = 0.0  # without what the sum of the weights rounds to
        return out

    @by_size
    def imputed(
        self, params: Params, chunk: Chunk, *, n_draws: int = 0, rng: np.random.RandomState | None = None
    ) -> Array:
        """Rows with values in place of NaN; see `completed_rows`."""
        resp = self.responsibilities(params, chunk)
        return completed_rows(self.family, params.components, chunk.x, resp, n_draws, rng)

    # --- inner -------------------------------------------------------------------------------------------------------

    @property
    def n_terms(self) -> int:
        """Terms of the sum: K."""
        return self.n_components

    def _weights(self, params: Params) -> Array:
        """Weights of all terms."""
        return np.asarray(params.weights)

    def _log_weights(self, params: Params) -> Array:
        return _logs(self._weights(params))

    def _observed(self, chunk: Chunk) -> Chunk:
        """The rows of the chunk that say something."""
        return observed(chunk) if self.missing is Missing.VALUES else chunk

    def _maximize(self, stats: Stats, family_previous: Any, weights: Array | None = None) -> Params:
        counts = stats.responsibilities
        if self.prior is not None:
            counts = self.prior.added(counts, float(counts.sum()), weights)
        total = counts.sum()
        active = stats.pairs / stats.weight if "pairs" in stats and stats.weight > 0 else self.n_components
        return Params(
            weights=counts / total,
            components=self.family.maximize(self._components(stats), family_previous),
            active=np.float64(active),
        )

    def _kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        return kernel_of(self.family, params.components, self.n_components, dtype)

    def _kernel_for_answers(self, params: Params) -> Kernel:
        """Held for the next call where work is small: to make it then takes longer than to use it."""
        if not in_numpy():
            return self._kernel(params)
        return reused_kernel(self, params, np.float64, lambda: self._kernel(params))

    def _fastest(self, params: Params, dtype: DTypeLike) -> Mixing:
        """A screen, where the statistics that led to these parameters make it worth while; else the kernel."""
        screen = self._screen(params, dtype)
        return self._kernel(params, dtype) if screen is None else screen

    def _screen(self, params: Params, dtype: DTypeLike) -> Mixing | None:
        if "active" not in params or in_numpy():
            return None
        rows = float(params.rows) if "rows" in params else 0.0
        return self.family.screen(params.components, dtype, float(params.active), rows)

    def _mix(self, kernel: Mixing, params: Params, chunk: Chunk) -> MixtureSums:
        """Accumulates all rows in the kernel."""
        sums = kernel.mix(chunk.x, chunk.weight, self._log_weights(params))
        if not np.isfinite(sums.log_likelihood):
            if chunk.x.dtype == np.float32:
                raise NumericalError("float32 overflows")  # which float64 may not; see `core.extremes`
            again = self._log_prob(self._kernel(params, chunk.x.dtype), chunk.x)
            for _ in self._posterior(again, params, chunk.x):
                pass  # raises at the row
            sizes = np.fmax.reduce(np.abs(chunk.x), axis=1)
            row = int(sizes.argmax())
            largest = f"row {row} holds the largest, {sizes[row]:.3g}"
            raise NumericalError(
                f"the log-likelihood of the chunk is {sums.log_likelihood}: {remedy(self.family.overflows)} ({largest})"
            )
        return sums

    def _densities(self, params: Params, chunk: Chunk) -> Iterator[tuple[slice, Array]]:
        """For every block, log p_k(x) as (K, b), by a kernel unless rows are too few for one."""
        x = chunk.x
        few = self.family.few_log_prob(params.components, x) if self.n_terms == self.n_components else None
        if few is None:
            return self._log_prob(self._kernel_for_answers(params), x)
        return iter([(slice(0, len(x)), np.ascontiguousarray(few.T))])

    def _log_prob(self, kernel: Kernel, x: Array) -> Iterator[tuple[slice, Array]]:
        """For every block, log p_k(x) as (K, b) in one reused buffer."""
        k = self.n_terms
        buffer = np.empty(k * min(kernel.block_rows, max(len(x), 1)), dtype=kernel.dtype)
        for block in kernel.blocks(len(x)):
            rows = block.stop - block.start
            log_prob = buffer[: k * rows].reshape(k, rows)
            kernel.load(x[block])
            kernel.log_prob(log_prob)
            yield block, log_prob

    def _far_weights(self, params: Params, chunk: Chunk, rows: Array) -> Array:
        """Logarithms of the weights of rows of a chunk: (K,) of all."""
        return _logs(params.weights)

    def _far(self, params: Params, chunk: Chunk, block: slice, far: Array) -> FarRows:
        """Answers about rows `far` of a block, whose log-densities overflowed."""
        rows = chunk.x[block][far]
        weights = self._far_weights(params, chunk, block.start + far)
        found = judged_far(self.family, params.components, weights, rows)
        if found is None:
            raise no_density(block.start + int(far[0]), rows[0], self.family.overflows)
        return found

    def _posterior(
        self, blocks: Iterator[tuple[slice, Array]], params: Params, x: Array, strict: bool = True
    ) -> Iterator[tuple[slice, Array, Normalized]]:
        """Responsibilities (K, b) in the place of each block of log-densities, and what else was computed; all finite
        if `strict`."""
        log_weights = self._log_weights(params)
        for block, resp in blocks:
            known = normalize_log_rows(resp, log_weights)
            if strict and (far := _lost(known.log_density)) is not None:
                raise no_density(block.start + int(far[0]), x[block][far[0]], self.family.overflows)
            yield block, resp, known


def _logs(weights: Array) -> Array:
    return cached_by_identity(weights, weights, "log weights", lambda: _log(weights))


def _log(weights: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weights))


def _lost(log_density: Array) -> Array | None:
    """Indices of rows (b,) whose log-density is not finite, or None."""
    finite = np.isfinite(log_density)
    return None if finite.all() else np.flatnonzero(~finite)
