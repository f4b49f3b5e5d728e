"""The hidden semi-Markov model in which covariates decide which state follows one that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.extremes import far_rounding
from streamem.core.faults import missing
from streamem.core.numerics import small_buffers
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.models.age_pass import AgedChain, block_bytes, with_none
from streamem.models.by_size import by_size
from streamem.models.chain_pass import Chain, impossible
from streamem.models.driven_age_pass import DrivenAgeMessages, DrivenAgePass
from streamem.models.driven_hmm import DrivenHMM
from streamem.models.durations import Durations
from streamem.models.hmm import ALONE, CHUNK_BYTES, GROUP_ROWS, Responsibilities, weight_of_steps
from streamem.models.semi_markov import Lasting, require_substates
from streamem.models.steps import Steps, steps_of

Array = NDArray[Any]


class DrivenSemiMarkov(Lasting, DrivenHMM):
    """A `SemiMarkov` in which the state after one that is left at step t depends on covariates u_t of step t.

    log P(j follows i | i is left at t) = α_ij + β_ij·u_t − log Σ_{l≠i} exp(α_il + β_il·u_t) for j ≠ i; how long a state
    lasts depends on no covariate.

    Parameters
    ----------
    durations : kind of distribution, and D
    duration_means_init, duration_sizes_init : (K,) to start from, or None
    others : as `DrivenHMM`; two states at least

    Notes
    -----
    Parameters and statistics: those of `DrivenHMM`, with transitions between different states, and of `SemiMarkov`
    duration_logs, leaves and stays.
    """

    jumps = True

    def __init__(
        self,
        family: Family,
        n_components: int,
        start: Responsibilities,
        n_covariates: int,
        durations: Durations,
        box: Array | None = None,
        startprob_prior: ArrayLike = 1.0,
        startprob_init: ArrayLike | None = None,
        moves_init: Params | None = None,
        duration_means_init: ArrayLike | None = None,
        duration_sizes_init: ArrayLike | None = None,
        params: str | None = None,
        total_weight: float | None = None,
    ) -> None:
        super().__init__(
            family, n_components, start, n_covariates, box, startprob_prior, startprob_init, moves_init, params,
            total_weight,
        )  # fmt: skip
        if n_components < 2:
            raise ParameterError(
                "with durations and transition_covariates there must be two states at least: of one, "
                "none can follow; leave transition_covariates at None"
            )
        self.durations = durations
        self._first_means, self._first_sizes = duration_means_init, duration_sizes_init
        require_substates(n_components, durations)

    # --- the Model port ----------------------------------------------------------------------------------------------

    def driven(self, params: Params, sample: Chunk) -> Params:
        """Parameters of an `HMM` with the first logits and durations in place of its matrix."""
        return super().driven(params, sample).replace(duration_logs=self.first_durations())

    def _expected(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        steps = steps_of(chunk, message or ALONE)
        work = self._age_pass(params, chunk, steps, message, chunk.x.dtype)
        for first, stop, gamma in work.gammas(steps.weights):
            work.emissions.accumulate(first, stop, gamma)
        weight, found = weight_of_steps(chunk, steps), work.moves.stats()
        rounding = work.emissions.kernel.rounding + self.age_rounding
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=work.sums.log_likelihood,
            rounding=weight * rounding + far_rounding(work.emissions.kernel, work.sums.log_likelihood),
            startprob=work.sums.begun,
            visits=work.sums.visits,
            transitions=found.transitions,
            curvature=found.curvature,
            target=found.target,
            components=work.emissions.stats(),
            **work.sums.others(),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The M-step of a driven chain, and durations by `Durations.maximize`; ``params`` names both by "t"."""
        params, logs = super().m_step(stats, previous), np.asarray(previous.duration_logs)
        if self.updates_moves:
            logs = self.durations.maximize(np.asarray(stats.leaves), np.asarray(stats.stays), logs)
        return params.replace(duration_logs=logs)

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """The family's, and what Newton's method lets the durations lose to rounding, in nats."""
        own = super().shortfall(old, new, stats)
        if self.updates_moves:
            own += self.durations.rounding(np.asarray(new.duration_logs), stats.leaves, stats.stays)
        return own

    def workspace_bytes(self, n_features: int) -> int:
        """The workspace of a driven chain, transitions of a chunk that is one sequence, and its sub-states."""
        rows, k = CHUNK_BYTES // (4 * n_features), self.n_components
        own = 8 * rows * (4 * k * k + k) + block_bytes(rows, (k, self.durations.most_ages))
        return super().workspace_bytes(n_features) + own

    def statistics_bytes(self, n_features: int) -> int:
        """Statistics of a driven chain, and two counts for each sub-state."""
        return super().statistics_bytes(n_features) + 16 * self.n_components * self.durations.most_ages

    # --- capabilities ------------------------------------------------------------------------------------------------

    def shares(self, params: Params) -> Array:
        """Share of every state where covariates are in the middle: visits times mean durations, (K,)."""
        shares = super().shares(params) * self.mean_durations(params)
        return np.asarray(shares / shares.sum())

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What the driven chain finds wrong, and durations that are none."""
        if found := missing(params, ("duration_logs",)):
            return found
        return super().faults(params, n_components, n_features) + self.duration_faults(params, n_components)

    # --- what a fitted model says of sequences -----------------------------------------------------------------------

    @by_size
    @small_buffers
    def posteriors(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """Probability of every state given the whole sequence, (n, K); NaN for padding."""
        out = np.full((chunk.rows, self.n_components), np.nan)
        steps = steps_of(chunk, message or ALONE)
        work = self._age_pass(params, chunk, steps, message, np.float64)
        for first, stop, gamma in work.gammas(np.ones(len(steps.spans))):
            out[first:stop] = gamma[:, : self.n_components]
        if steps.padding is not None:
            out[steps.padding] = np.nan
        return out

    def path(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of states, durations included: (n,) int64; −1 for padding."""
        return self.states_of(self.walk(params, chunk, message))

    @by_size
    @small_buffers
    def walk(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of sub-states k·D + age − 1: (n,) int64; −1 for padding."""
        message = message or ALONE
        steps, aged = steps_of(chunk, message), self._aged(params)
        emissions, drive = self._emissions(params, chunk, steps, np.float64), self._drive(params, chunk, steps)
        out = np.full(chunk.rows, -1, dtype=np.int64)
        for s, (first, stop) in enumerate(steps.spans.tolist()):
            if first == stop:
                continue
            before = message.before if s == 0 else None
            after = message.after if s == len(steps.spans) - 1 else None
            log_prob, moves = np.ascontiguousarray(emissions.log_prob(first, stop)), drive.moves(first, stop)
            if after is not None:
                log_prob = with_none(log_prob)
            path = np.empty(len(log_prob), dtype=np.int64)
            found = kernels.best_ages(
                log_prob, aged.entry(before, True), False, aged.exit(after, True),
                np.ascontiguousarray(moves[: max(len(log_prob) - 1, 1)]), aged.ages.log_leave, aged.ages.log_stay, path,
            )  # fmt: skip
            if not np.isfinite(found):
                raise NumericalError(impossible(s, first, stop, log_prob, emissions.overflows))
            out[first:stop] = path[: stop - first]
        return out

    def log_starts(self, params: Params, walk: Array) -> Array:
        """Log-probabilities that a sequence begins in sub-states, which are of age 1."""
        return super().log_starts(params, self.states_of(walk))

    def log_moves(self, params: Params, chunk: Chunk, rows: Array, came: Array, went: Array) -> Array:
        """Log-probabilities of moves between sub-states (n,) and those of the next steps, for moves that can be."""
        table, left = self.durations.table(np.asarray(params.duration_logs)), went % self.durations.most_ages == 0
        moved = super().log_moves(params, chunk, rows, self.states_of(came), self.states_of(went))
        gone, stayed = table.log_leave.ravel()[came], table.log_stay.ravel()[came]
        return np.asarray(np.where(left, gone + moved, stayed))

    @by_size
    @small_buffers
    def log_likelihood(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """rows, weight and weighted log-likelihood in nats."""
        steps = steps_of(chunk, message or ALONE)
        work = self._age_pass(params, chunk, steps, message, np.float64)
        for _ in work.gammas(steps.weights):
            pass
        return Stats(rows=chunk.rows, weight=weight_of_steps(chunk, steps), log_likelihood=work.sums.log_likelihood)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _aged(self, params: Params) -> AgedChain:
        k = self.n_components
        chain = Chain.of(np.asarray(params.startprob), np.full((k, k), 1 / k))  # moves are the drive's
        return AgedChain(chain, self.durations.table(np.asarray(params.duration_logs)))

    def _messages(self, params: Params, chunk: Chunk, boundary: Boundary) -> DrivenAgeMessages:
        steps = steps_of(chunk, boundary)
        emissions, drive = self._emissions(params, chunk, steps, np.float64), self._drive(params, chunk, steps)
        return DrivenAgeMessages(self._aged(params), drive, emissions, steps, boundary)

    def _age_pass(
        self, params: Params, chunk: Chunk, steps: Steps, message: Boundary | None, dtype: DTypeLike
    ) -> DrivenAgePass:
        emissions, drive = self._emissions(params, chunk, steps, dtype), self._drive(params, chunk, steps)
        rows = max(GROUP_ROWS, emissions.kernel.block_rows)
        return DrivenAgePass(self._aged(params), drive, emissions, steps, message or ALONE, rows)
