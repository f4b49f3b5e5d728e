"""The mixture of groups: all rows of one group are drawn from the same component."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.extremes import balanced, expected, far_rounding
from streamem.core.faults import missing, shares
from streamem.core.numerics import EPS, small_buffers
from streamem.core.ports import Family, MixtureSums, full_family, kernel_of
from streamem.core.stats import Stats
from streamem.kernels.plain_kernel import reused_kernel
from streamem.models.by_size import by_size
from streamem.models.emissions import Emissions
from streamem.models.far_rows import remedy
from streamem.models.forwards_to_family import ForwardsToFamily
from streamem.models.imputing import completed_rows
from streamem.models.mixture import Responsibilities
from streamem.models.steps import Steps, missing_rows, steps_of
from streamem.models.weight_prior import WeightPrior

Array = NDArray[Any]

RUN_ROWS = 8192
"""Groups are taken together up to so many rows; a larger one goes block by block."""
ALONE = Boundary()


class Group(NamedTuple):
    """What a chunk knows of a run of whole groups, or of the piece of one that it holds.

    Attributes
    ----------
    first : position of the first group in the chunk
    spans : (g, 2) their rows
    log_density : (g,) log p(rows | what came before), in nats
    posterior : (g, K) probability of every component given the whole group
    """

    first: int
    spans: Array
    log_density: Array
    posterior: Array


class Tally(ABC):
    """What counts posteriors of groups besides."""

    @abstractmethod
    def add(self, groups: slice, counted: Array) -> None:
        """Count weighted posteriors (g, K) of some groups of the chunk, 0 of one that began before."""

    @abstractmethod
    def told(self) -> dict[str, Array]:
        """Statistics."""


class GroupedMixture(ForwardsToFamily):
    """p(group) = Σ_k w_k Π_rows p_k(x): one component for all rows of a group.

    Parameters
    ----------
    family : what a component emits
    n_components : K
    start : responsibilities of the groups of a sample, from the means of their rows
    prior : of the weights, or None

    Notes
    -----
    Parameters: weights (K,), components (those of the family). Statistics: responsibilities (K,) count groups;
    components are those of rows, each with the posterior of its group (Vermunt 2003, §2: repeated measures). A row of
    NaN is one at which nothing was observed. A group that a chunk boundary cuts is one group where the messages of the
    chunks beyond are given, and begins from the weights anew where they are not.
    """

    allows_missing_steps = True

    def __init__(
        self, family: Family, n_components: int, start: Responsibilities, prior: WeightPrior | None = None
    ) -> None:
        self.family = full_family(family)
        self.n_components = n_components
        self.prior = prior
        self._start = start

    # --- the Model port ----------------------------------------------------------------------------------------------

    @by_size
    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """One M-step from starting responsibilities of the sampled groups."""
        sample, _ = balanced(sample)
        steps = steps_of(sample, ALONE)
        resp, present = self._first_responsibilities(sample, steps, rng)
        x, lengths = sample.x[present], steps.spans[:, 1] - steps.spans[:, 0]
        rows = np.repeat(resp * steps.weights[:, None], lengths, axis=0)[present[_inside(steps, sample.rows)]]
        previous = self.family.start(x, None if sample.weight is None else sample.weight[present], self.n_components)
        components = self.family.maximize(self.family.stats(previous, x, rows), previous)
        return self._assembled(steps.weights @ resp, components)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """Equal weights and the family's `start`, whose anchor alone means something; None if it has none."""
        if not self.family.has_start:
            return None
        present = _present(sample.x)
        weight = None if sample.weight is None else sample.weight[present]
        components = self.family.start(sample.x[present], weight, self.n_components)
        return self._assembled(np.ones(self.n_components), components)

    @by_size
    @small_buffers
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """responsibilities (K,) of groups, components, and the four scalars that every model carries."""
        return expected(chunk, lambda chunk: self._expected(params, chunk, message))

    def _expected(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        message = message or ALONE
        steps = steps_of(chunk, message)
        emissions = self._emissions(params, chunk, steps, chunk.x.dtype)
        begun, weighted = _begun(chunk, steps, message), chunk.weight is not None
        priors, tally = self._log_weights(params, chunk, steps), self._tally(params, chunk, steps)
        log_likelihood, counts = 0.0, np.zeros(self.n_components)
        at_once = self._at_once(params, emissions, steps, message)
        for run in _runs(steps, max(RUN_ROWS, emissions.kernel.block_rows), at_once):
            sums = (
                _mixed(params, emissions, steps, run, weighted) if at_once.start <= run.start < at_once.stop else None
            )
            sums = sums or self._one_by_one(params, priors, emissions, steps, message, run, begun, tally)
            log_likelihood, counts = log_likelihood + sums.log_likelihood, counts + sums.responsibilities
        weight = _weight(chunk, steps)
        rounding = emissions.kernel.rounding + 4 * (self.n_components + 4) * EPS
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=log_likelihood,
            rounding=weight * rounding + far_rounding(emissions.kernel, log_likelihood),
            responsibilities=counts,
            components=emissions.stats(),
            **({} if tally is None else tally.told()),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Weights in proportion to the groups of a component; the family maximizes the rest."""
        components = self.family.maximize(self._components(stats), previous.components)
        counts = stats.responsibilities
        if self.prior is not None:
            counts = self.prior.added(counts, float(stats.weight), previous.weights)
        return self._assembled(counts, components)

    @property
    def has_prior(self) -> bool:
        """Whether the weights have."""
        return self.prior is not None

    def penalty(self, params: Params, stats: Stats) -> float:
        """The family's penalty, and that of the prior of the weights, in nats."""
        own = 0.0 if self.prior is None else self.prior.penalty(params.weights, float(stats.weight))
        return own + super().penalty(params, stats)

    def weight_of(self, chunk: Chunk) -> float:
        """Weight of all rows of a chunk."""
        return _weight(chunk, steps_of(chunk, ALONE))

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the family runs at these parameters on rows of `dtype`, in words."""
        return self.family.arithmetic(params.components, dtype)

    def workspace_bytes(self, n_features: int) -> int:
        """The family's, and log-densities and posteriors of a run of groups."""
        own = 8 * RUN_ROWS * (4 * self.n_components + 8 + n_features)
        return own + self.family.workspace_bytes(self.n_components, n_features)

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
        return found + self._family_faults(params, n_components, n_features)

    # --- what a fitted model says of groups, in their order ----------------------------------------------------------

    @by_size
    @small_buffers
    def group_responsibilities(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """Posterior probability of every component, (groups that begin in the chunk, K)."""
        found = [group.posterior for group in self._asked(params, chunk, message)]
        return self._that_begin(found, chunk, (0, self.n_components))

    def group_labels(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable component of every group that begins in the chunk: int64."""
        return np.argmax(self.group_responsibilities(params, chunk, message), axis=1)

    @by_size
    @small_buffers
    def group_log_density(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """log p(rows) of every group, in nats: of a piece given the pieces before it, so that pieces add up."""
        found = [group.log_density for group in self._asked(params, chunk, message)]
        return np.concatenate(found) if found else np.empty(0)

    @by_size
    @small_buffers
    def imputed(
        self,
        params: Params,
        chunk: Chunk,
        message: Boundary | None = None,
        *,
        n_draws: int = 0,
        rng: np.random.RandomState | None = None,
    ) -> Array:
        """Rows with values in place of NaN, by the posterior of their group; padding stays. See `completed_rows`."""
        resp = np.full((chunk.rows, self.n_components), np.nan)
        for group in self._asked(params, chunk, message):
            for (first, stop), posterior in zip(group.spans.tolist(), group.posterior, strict=True):
                resp[first:stop] = posterior
        return completed_rows(self.family, params.components, chunk.x, resp, n_draws, rng)

    @by_size
    @small_buffers
    def log_likelihood(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """rows, weight of the groups that begin in the chunk, and weighted log-likelihood in nats."""
        steps = steps_of(chunk, message or ALONE)
        emissions = self._emissions(params, chunk, steps, np.float64)
        total = 0.0
        priors = self._log_weights(params, chunk, steps)
        for group in self._groups(params, priors, emissions, steps, message or ALONE):
            total += float(steps.weights[group.first : group.first + len(group.spans)] @ group.log_density)
        begun = _begun(chunk, steps, message or ALONE)
        return Stats(rows=chunk.rows, weight=float(steps.weights @ begun), log_likelihood=total)

    # --- groups that are cut -----------------------------------------------------------------------------------------

    def scans(self, params: Params, question: str) -> bool:
        """Whether pieces give their operators in any order: always, since these are diagonal."""
        return True

    @by_size
    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-probabilities, up to a constant, of the component given all rows so far."""
        before = boundary.before
        if before is None:
            before = self._log_weights(params, chunk, steps_of(chunk, ALONE))[0]
        return np.asarray(before + self._total(params, chunk))

    @by_size
    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-likelihoods, up to a constant, of the rows of the chunk and `after`, given the component."""
        own = self._total(params, chunk)
        return own if boundary.after is None else np.asarray(own + boundary.after)

    @by_size
    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array:
        """(K, K) of the component after the chunk (columns) given that before (rows): it stays what it is."""
        operator = np.full((self.n_components, self.n_components), -np.inf)
        np.fill_diagonal(operator, self._total(params, chunk))
        return operator

    # --- inner -------------------------------------------------------------------------------------------------------

    def _assembled(self, counts: Array, components: Any) -> Params:
        return Params(weights=counts / counts.sum(), components=components)

    def _first_responsibilities(
        self, sample: Chunk, steps: Steps, rng: np.random.RandomState
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Responsibilities (g, K) of the groups, and which rows (n,) have values."""
        present = _present(sample.x)
        if not present.any():
            raise ParameterError(
                "every row of the sample is missing; a model cannot start from that: pass groups of which rows "
                "have values"
            )
        means, known = _means(sample.x, steps.spans, present)
        resp = np.zeros((len(steps.spans), self.n_components))
        weight = None if sample.weight is None else steps.weights[known]
        resp[known] = self._start(means[known], weight, self.n_components, rng)
        return resp, present

    def _emissions(self, params: Params, chunk: Chunk, steps: Steps, dtype: DTypeLike) -> Emissions:
        made = partial(kernel_of, self.family, params.components, self.n_components, dtype)
        return Emissions(reused_kernel(self, params, dtype, made), chunk.x, steps.missing, self.family.overflows)

    def _asked(self, params: Params, chunk: Chunk, message: Boundary | None) -> Iterator[Group]:
        steps = steps_of(chunk, message or ALONE)
        emissions = self._emissions(params, chunk, steps, np.float64)
        priors = self._log_weights(params, chunk, steps)
        return self._groups(params, priors, emissions, steps, message or ALONE)

    def _log_weights(self, params: Params, chunk: Chunk, steps: Steps) -> Array:
        """(g, K) logarithms of the weights of every group."""
        return np.broadcast_to(_log(params.weights), (len(steps.spans), self.n_components))

    def _tally(self, params: Params, chunk: Chunk, steps: Steps) -> Tally | None:
        """What counts posteriors of groups besides; by default nothing does."""
        return None

    def _that_begin(self, found: list[Array], chunk: Chunk, empty: tuple[int, int]) -> Array:
        every = np.concatenate(found) if found else np.empty(empty)
        opened = chunk.sequences is not None and chunk.sequences.opened
        return every[1:] if opened else every

    def _at_once(self, params: Params, emissions: Emissions, steps: Steps, message: Boundary) -> slice:
        """The groups of which a kernel makes the E-step in one call: those that end where the chunk does, or before."""
        if not emissions.kernel.takes_groups:
            return slice(0, 0)
        first, beyond = int(message.before is not None), int(message.after is not None)
        return slice(first, max(first, len(steps.spans) - beyond))

    def _one_by_one(
        self,
        params: Params,
        priors: Array,
        emissions: Emissions,
        steps: Steps,
        message: Boundary,
        run: slice,
        begun: Array,
        tally: Tally | None,
    ) -> MixtureSums:
        """The sums of a run of groups, and the statistics of its rows."""
        log_likelihood, counts = 0.0, np.zeros(self.n_components)
        for group in self._groups(params, priors, emissions, steps, message, [run]):
            own = slice(group.first, group.first + len(group.spans))
            weights = steps.weights[own]
            weighed = group.posterior * weights[:, None]
            here = weighed * begun[own, None]
            counts += here.sum(axis=0)
            if tally is not None:
                tally.add(own, here)
            log_likelihood += float(weights @ group.log_density)
            if emissions.accumulate_groups(group.spans, weighed):
                continue
            for first, stop, gamma in _rows_of(group.spans, weighed, emissions.kernel.block_rows):
                emissions.accumulate(first, stop, gamma)
        return MixtureSums(log_likelihood, 0.0, counts)

    def _groups(
        self,
        params: Params,
        priors: Array,
        emissions: Emissions,
        steps: Steps,
        message: Boundary,
        runs: Sequence[slice] | None = None,
    ) -> Iterator[Group]:
        """Runs of groups, or all, with posteriors, whose log-weights are priors (g, K).

        Messages count for the first and the last group of the chunk.
        """
        last = len(steps.spans) - 1
        rows = max(RUN_ROWS, emissions.kernel.block_rows)
        for run in steps.groups(rows) if runs is None else runs:
            spans = steps.spans[run]
            joint = sums_of_groups(emissions, spans, rows)
            entry = np.array(priors[run])
            if run.start == 0 and message.before is not None:
                entry[0] = message.before - np.logaddexp.reduce(message.before)
            joint += entry
            peak = by_columns(np.maximum, joint)[:, None]
            if not np.isfinite(peak).all():
                raise _impossible(emissions, spans, peak[:, 0])
            posterior = np.exp(joint - peak)
            total = by_columns(np.add, posterior)
            density = peak[:, 0] + np.log(total)
            if run.stop - 1 == last and message.after is not None:
                joint[-1] += message.after
                peak[-1] = joint[-1].max()
                if not np.isfinite(peak[-1]):
                    raise _impossible(emissions, spans, peak[:, 0])
                posterior[-1] = np.exp(joint[-1] - peak[-1])
                total[-1] = posterior[-1].sum()
            posterior /= total[:, None]
            yield Group(run.start, spans, density, posterior)

    def _total(self, params: Params, chunk: Chunk) -> Array:
        """(K,) log-density of all rows of a chunk, which belong to one group."""
        steps = steps_of(chunk, ALONE)
        emissions = self._emissions(params, chunk, steps, np.float64)
        return np.asarray(sums_of_groups(emissions, np.array([[0, chunk.rows]]), RUN_ROWS)[0])


def _runs(steps: Steps, rows: int, at_once: slice) -> list[slice]:
    """Runs of at most so many rows together, which end where those that go at once begin and end."""
    count = len(steps.spans)
    if at_once.start == at_once.stop:
        return steps.groups(rows)
    bounds = pairwise([0, at_once.start, at_once.stop, count])
    return [run for first, stop in bounds for run in steps.groups(rows, first, stop)]


def _mixed(params: Params, emissions: Emissions, steps: Steps, run: slice, weighted: bool) -> MixtureSums | None:
    """The sums of a run by one call of the kernel; None where that does not serve, or a density is not finite."""
    weight = steps.weights[run] if weighted else None
    found = emissions.mix_groups(steps.spans[run], weight, _log(params.weights))
    return found if found is not None and np.isfinite(found.log_likelihood) else None


def sums_of_groups(emissions: Emissions, spans: Array, rows: int) -> Array:
    """(g, K) log-densities of groups, in nats; rows between two spans are missing, and add nothing."""
    first, stop = int(spans[0, 0]), int(spans[-1, 1])
    if len(spans) == 1:
        parts = range(first, max(stop, first + 1), rows)
        return sum(emissions.log_prob(a, min(a + rows, stop)).sum(axis=0) for a in parts)[None]
    log_prob = emissions.log_prob(first, stop)
    held = np.flatnonzero(spans[:, 1] > spans[:, 0])
    out = np.zeros((len(spans), log_prob.shape[1]))
    if len(held):
        out[held] = np.add.reduceat(log_prob, spans[held, 0] - first, axis=0)
    return out


def by_columns(combine: np.ufunc, values: Array) -> Array:
    """NumPy's ``combine.reduce(values, axis=1)`` but for rounding, some times as fast where rows are short."""
    found = values[:, 0].copy()
    for j in range(1, values.shape[1]):
        combine(found, values[:, j], out=found)
    return found


def _rows_of(spans: Array, weighed: Array, block: int) -> Iterator[tuple[int, int, Array]]:
    """Runs of rows (first, stop) with the weight of every component (rows, K)."""
    first, stop = int(spans[0, 0]), int(spans[-1, 1])
    if len(spans) == 1:
        for a in range(first, stop, block):
            b = min(a + block, stop)
            yield a, b, np.repeat(weighed, b - a, axis=0)
        return
    bounds = np.append(spans[:, 0], stop)  # padding behind a group goes with it: its rows are missing
    yield first, stop, np.repeat(weighed, np.diff(bounds), axis=0)


def _means(x: Array, spans: Array, present: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Means (g, d) of the values of groups that were observed, and which groups (g,) have any."""
    observed = ~np.isnan(x)
    values = np.where(observed, x, 0.0).astype(np.float64)
    totals, counts = _by_group(values, spans), _by_group(observed.astype(np.float64), spans)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals / counts
    return means, _by_group(present[:, None].astype(np.float64), spans)[:, 0] > 0


def _by_group(values: Array, spans: Array) -> Array:
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(sums[spans[:, 1]] - sums[spans[:, 0]])


def _present(x: Array) -> NDArray[np.bool_]:
    absent = missing_rows(x)
    return np.ones(len(x), dtype=np.bool_) if absent is None else ~absent


def _inside(steps: Steps, rows: int) -> NDArray[np.bool_]:
    """(n,) which rows belong to a group: not padding."""
    return np.ones(rows, dtype=np.bool_) if steps.padding is None else ~steps.padding


def _begun(chunk: Chunk, steps: Steps, message: Boundary) -> Array:
    """(g,) 1.0 for groups that are counted here: where they begin, or are taken to begin."""
    begun = np.ones(len(steps.spans))
    if len(begun) and chunk.sequences is not None and chunk.sequences.opened and message.before is not None:
        begun[0] = 0.0
    return begun


def _weight(chunk: Chunk, steps: Steps) -> float:
    """Weight of all rows; padding has none."""
    counted = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
    return float(counted.sum() if steps.padding is None else counted[~steps.padding].sum())


def _log(weights: Any) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.asarray(weights)))


def _impossible(emissions: Emissions, spans: Array, peak: Array) -> NumericalError:
    group = int(np.argmin(np.isfinite(peak)))
    first, stop = spans[group].tolist()
    return NumericalError(
        f"the group in rows {first}–{stop - 1} of the chunk has no finite log-density under any component: "
        f"{remedy(emissions.overflows)}"
    )
