"""The hidden semi-Markov model: a hidden Markov model whose states last as long as a distribution of durations says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.faults import missing
from streamem.core.numerics import EPS, small_buffers
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.core.validation import numbers
from streamem.models.age_pass import AgedChain, AgeMessages, AgePass, block_bytes
from streamem.models.by_size import by_size
from streamem.models.chain_pass import Chain, impossible
from streamem.models.durations import MOST_SUBSTATES, Durations
from streamem.models.hmm import ALONE, CHUNK_BYTES, GROUP_ROWS, HMM, Responsibilities
from streamem.models.steps import Steps, steps_of
from streamem.models.transitions import Topology, Transitions

Array = NDArray[Any]

FIRST_MEAN = 10.0
"""Mean duration to start from, in steps, or a quarter of the ages if that is less."""


class Jumps(Transitions):
    """Which state follows another one: none itself, but where the topology allows it no other."""

    def _allowed(self) -> Array:
        allowed = super()._allowed()
        others = allowed * (1.0 - np.eye(self.n_states))
        return np.where(others.sum(axis=1, keepdims=True) > 0, others, allowed)


class Lasting(ABC):
    """What models whose states last have in common."""

    durations: Durations
    n_components: int
    _first_means: ArrayLike | None
    _first_sizes: ArrayLike | None

    def mean_durations(self, params: Params) -> Array:
        """Mean durations (K,) in steps, with the geometric tail beyond the last age."""
        table = self.durations.table(np.asarray(params.duration_logs))
        survivors = np.exp(np.cumsum(table.log_stay, axis=1) - table.log_stay)  # P(duration ≥ a)
        with np.errstate(divide="ignore"):
            return np.asarray(survivors[:, :-1].sum(axis=1) + survivors[:, -1] / table.leave[:, -1])

    def states_of(self, walk: Array) -> Array:
        """The states of sub-states; −1 stays."""
        return np.asarray(walk // self.durations.most_ages)

    @property
    def n_substates(self) -> int:
        """States times ages."""
        return self.n_components * self.durations.most_ages

    def first_durations(self) -> Array:
        """duration_logs (K, p) before the first pass: as given, or means of `FIRST_MEAN` and sizes of 1."""
        k, ages = self.n_components, self.durations.most_ages
        means = np.full(k, max(1.5, min(FIRST_MEAN, ages / 4)))
        sizes = np.ones(k)
        if self._first_means is not None:
            means = positive(self._first_means, k, "duration_means", 1.0)
        if self._first_sizes is not None:
            sizes = positive(self._first_sizes, k, "duration_sizes", 0.0)
        return self.durations.logs(means, sizes)

    def duration_faults(self, params: Params, n_components: int) -> list[str]:
        """What is wrong with durations."""
        shape, logs = (n_components, 1 + self.durations.has_size), np.asarray(params.duration_logs)
        if logs.shape == shape and np.isfinite(logs).all():
            return []
        return [f"duration_logs has shape {logs.shape}; finite numbers {shape} are needed"]

    @property
    def age_rounding(self) -> float:
        """Rounding of K + D products and sums, in nats."""
        return 4 * (self.n_components + self.durations.most_ages + 8) * EPS

    # --- sequences that are cut --------------------------------------------------------------------------------------

    @abstractmethod
    def _messages(self, params: Params, chunk: Chunk, boundary: Boundary) -> Any:
        """What tells messages ``forward`` and ``backward`` of the one sequence of a chunk."""

    def scans(self, params: Params, question: str) -> bool:
        """Never: operators would be of (K·D)² numbers, so pieces are asked one after another, from both ends."""
        return False

    @by_size
    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K·D,) log-probabilities, up to a constant, of the sub-state that the piece leaves behind."""
        return np.asarray(self._messages(params, chunk, boundary).forward(question))

    @by_size
    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K·D,) log-likelihoods, up to a constant, of all steps and `after`, given the sub-state that comes in."""
        return np.asarray(self._messages(params, chunk, boundary).backward(question))

    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """Always None, since nobody asks: see `scans`."""
        return None


class SemiMarkov(Lasting, HMM):
    """An `HMM` whose states have durations of their own: explicit-duration hidden semi-Markov model.

    Computed as an HMM of K·D sub-states (state, age) with structure, at a cost of K·D + K² a step (Langrock & Zucchini
    2011; equal to the recursions over segments of Guédon 2003 and Yu 2010 where these know the same distributions).

    Parameters
    ----------
    durations : kind of distribution, and D
    duration_means_init, duration_sizes_init : (K,) to start from, or None
    others : as `HMM`, but that nothing can be tied

    Notes
    -----
    Parameters: those of `HMM`, where transmat has a diagonal of 0 (1 for a state that no other can follow), and
    duration_logs (K, p), see `Durations`. Statistics: those of `HMM`, with transitions between different states, and
    leaves and stays (K, D), expected numbers of steps after which a state of that age was left, or not. They are sums
    over pairs of neighbouring steps, so the end of a sequence censors its last duration exactly, and nothing is counted
    twice across a cut. The first state of a sequence has age 1: it begins there.
    """

    def __init__(
        self,
        family: Family,
        n_components: int,
        start: Responsibilities,
        durations: Durations,
        topology: Topology = "ergodic",
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        startprob_init: ArrayLike | None = None,
        transmat_init: ArrayLike | None = None,
        duration_means_init: ArrayLike | None = None,
        duration_sizes_init: ArrayLike | None = None,
        params: str | None = None,
        total_weight: float | None = None,
    ) -> None:
        priors = startprob_prior, transmat_prior, startprob_init, transmat_init
        super().__init__(family, n_components, start, topology, (), *priors, params, total_weight)
        self.transitions = Jumps(n_components, topology, (), *priors)
        self.durations = durations
        self._first_means, self._first_sizes = duration_means_init, duration_sizes_init
        require_substates(n_components, durations)

    # --- the Model port ----------------------------------------------------------------------------------------------

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The M-step of a chain, and durations by `Durations.maximize`; ``params`` names both by "t"."""
        params = super().m_step(stats, previous)
        logs = np.asarray(previous.duration_logs)
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
        """The workspace of a chain, and the sub-states of a block of steps."""
        rows = CHUNK_BYTES // (4 * n_features)
        return super().workspace_bytes(n_features) + block_bytes(rows, (self.n_components, self.durations.most_ages))

    def statistics_bytes(self, n_features: int) -> int:
        """Counts of a chain and the family's statistics, and two counts for each sub-state."""
        return super().statistics_bytes(n_features) + 16 * self.n_components * self.durations.most_ages

    def products_a_row(self, n_features: int) -> float:
        """What a step costs but for its ages: those are compiled however few there are."""
        return super().products_a_row(n_features) - 2 * self.n_components * self.durations.most_ages

    # --- capabilities ------------------------------------------------------------------------------------------------

    def shares(self, params: Params) -> Array:
        """Share of every state in about the first 1024 steps that are no stays: visits times mean durations, (K,)."""
        shares = super().shares(params) * self.mean_durations(params)
        return np.asarray(shares / shares.sum())

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What the chain finds wrong, and durations that are none."""
        if found := missing(params, ("duration_logs",)):
            return found
        return super().faults(params, n_components, n_features) + self.duration_faults(params, n_components)

    # --- what a fitted model says of sequences -----------------------------------------------------------------------

    def path(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of states, durations included: (n,) int64; −1 for padding."""
        return self.states_of(self.walk(params, chunk, message))

    @by_size
    @small_buffers
    def walk(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of sub-states k·D + age − 1: (n,) int64; −1 for padding."""
        message = message or ALONE
        steps, aged = steps_of(chunk, message), self._aged(params)
        emissions = self._emissions(params, chunk, steps, np.float64)
        out = np.full(chunk.rows, -1, dtype=np.int64)
        for s, (first, stop) in enumerate(steps.spans.tolist()):
            if first == stop:
                continue
            before = message.before if s == 0 else None
            after = message.after if s == len(steps.spans) - 1 else None
            log_prob = np.ascontiguousarray(emissions.log_prob(first, stop))
            found = kernels.best_ages(
                log_prob, aged.entry(before, True), before is not None, aged.exit(after, True),
                aged.chain.log_transmat[None], aged.ages.log_leave, aged.ages.log_stay, out[first:stop],
            )  # fmt: skip
            if not np.isfinite(found):
                raise NumericalError(impossible(s, first, stop, log_prob, emissions.overflows))
        return out

    def log_starts(self, params: Params, walk: Array) -> Array:
        """Log-probabilities that a sequence begins in sub-states, which are of age 1."""
        return super().log_starts(params, self.states_of(walk))

    def log_moves(self, params: Params, chunk: Chunk, rows: Array, came: Array, went: Array) -> Array:
        """Log-probabilities of moves between sub-states (n,) and those of the next steps, for moves that can be."""
        ages, table = self.durations.most_ages, self.durations.table(np.asarray(params.duration_logs))
        left = went % ages == 0  # D > 1, so that nothing of age 1 was stayed in
        moved = super().log_moves(params, chunk, rows, self.states_of(came), self.states_of(went))
        gone, stayed = table.log_leave.ravel()[came], table.log_stay.ravel()[came]
        return np.asarray(np.where(left, gone + moved, stayed))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _aged(self, params: Params) -> AgedChain:
        chain = Chain.of(np.asarray(params.startprob), np.asarray(params.transmat))
        return AgedChain(chain, self.durations.table(np.asarray(params.duration_logs)))

    def _messages(self, params: Params, chunk: Chunk, boundary: Boundary) -> AgeMessages:
        steps = steps_of(chunk, boundary)
        return AgeMessages(self._aged(params), self._emissions(params, chunk, steps, np.float64), steps, boundary)

    def _pass(self, params: Params, chunk: Chunk, steps: Steps, message: Boundary | None, dtype: DTypeLike) -> AgePass:
        emissions = self._emissions(params, chunk, steps, dtype)
        rows = max(GROUP_ROWS, emissions.kernel.block_rows)
        return AgePass(self._aged(params), emissions, steps, message or ALONE, rows)

    def _rounding(self, work: Any) -> float:
        """Rounding of the log-likelihood of one step: its densities, and K + D products and sums."""
        return float(work.emissions.kernel.rounding + self.age_rounding)

    def first_chain(self) -> dict[str, Array]:
        """Parameters before the first pass, by name, beside those of the emissions."""
        return {**super().first_chain(), "duration_logs": self.first_durations()}


def positive(values: ArrayLike, k: int, name: str, above: float) -> Array:
    """Numbers (K,) above a bound.

    Raises
    ------
    ParameterError : other shapes, or numbers that are not
    """
    found = numbers(values, name)
    if found.shape != (k,) or not (np.isfinite(found).all() and (found > above).all()):
        raise ParameterError(
            f"{name} is {found.tolist()!r:.200} of shape {found.shape}; {k} finite numbers > {above:g} are needed"
        )
    return found


def require_substates(k: int, durations: Durations) -> None:
    """Refuse more sub-states than a step can carry.

    Raises
    ------
    ParameterError : more than `MOST_SUBSTATES`
    """
    count = k * durations.most_ages
    if count > MOST_SUBSTATES:
        held = block_bytes(CHUNK_BYTES // 4, (k, durations.most_ages))
        raise ParameterError(
            f"{k} states of up to max_duration={durations.most_ages} steps are {count} sub-states, each of which every "
            f"step visits (and {held / 2**20:.0f} MiB a thread would hold); at most {MOST_SUBSTATES} are allowed: set "
            f"max_duration to {MOST_SUBSTATES // k} or less. States may last longer than that: beyond, they are left "
            "with a probability that stays as it is"
        )
