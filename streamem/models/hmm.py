"""The hidden Markov model: a chain of hidden states, each of which emits what a family says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import PATH, Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.extremes import balanced, expected, far_rounding
from streamem.core.faults import flags, missing, shares
from streamem.core.numerics import EPS, small_buffers
from streamem.core.ports import Family, full_family, kernel_of
from streamem.core.stats import Stats
from streamem.kernels.plain_kernel import reused_kernel
from streamem.machine.lanes import lanes_for
from streamem.models.by_size import by_size
from streamem.models.chain_operators import ChainOperators, filled_up
from streamem.models.chain_pass import Chain, ChainPass, entry_of, impossible
from streamem.models.emissions import Emissions
from streamem.models.forwards_to_family import ForwardsToFamily
from streamem.models.imputing import completed_rows
from streamem.models.observed import covered, observed
from streamem.models.steps import Steps, steps_of
from streamem.models.transitions import Topology, Transitions

Array = NDArray[Any]
Responsibilities = Callable[[Array, Array | None, int, np.random.RandomState], Array]
"""(x (n, d), weight (n,) or None, K, rng) → responsibilities (n, K) to start from."""

ALONE = Boundary()
CHUNK_BYTES = 2**21
GROUP_ROWS = 8192
"""Steps that go through the recursions in one call: threads that met at the interpreter's lock every 2,000 steps were
together hardly faster than one."""

STEP_PRODUCTS = 100
"""What a step of the recursions costs in NumPy besides, in products of a mixture."""


class HMM(ForwardsToFamily):
    """A chain z_1, z_2, … of K hidden states; step t emits x_t from the component z_t of any `Family`.

    Parameters
    ----------
    family : what a state emits
    n_components : K
    start : responsibilities of a sample, from which the first emissions are estimated
    topology, tied_transitions, startprob_prior, transmat_prior, startprob_init, transmat_init : see `Transitions`
    params : what the M-step updates, by hmmlearn's letters: "s" startprob, "t" transmat, any other the emissions;
        None is all of it
    total_weight : of all steps, if statistics may stand for a share of them: priors of the transitions count in
        proportion; None takes statistics for those of all data

    Notes
    -----
    Parameters: startprob (K,), transmat (K, K), components (those of the family), and kept (K,), the states that were
    never left in the last E-step and so keep their row of transmat. Statistics: startprob (K,) expected first states,
    transitions (K, K), visits (K,), components. E- and M-step: Rabiner 1989, §III.

    A row of NaN is a step at which nothing was observed. An opened sequence (see `Sequences`) without a message about
    what came before is taken for one of its own that begins from startprob: windows of a long one are learned so.
    """

    allows_missing_steps = True

    def __init__(
        self,
        family: Family,
        n_components: int,
        start: Responsibilities,
        topology: Topology = "ergodic",
        tied_transitions: Sequence[Sequence[int]] = (),
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        startprob_init: ArrayLike | None = None,
        transmat_init: ArrayLike | None = None,
        params: str | None = None,
        total_weight: float | None = None,
    ) -> None:
        self.family = full_family(family)
        self.total_weight = total_weight
        self.n_components = n_components
        self.transitions = Transitions(
            n_components, topology, tied_transitions, startprob_prior, transmat_prior, startprob_init, transmat_init
        )
        self._start = start
        self.updates_start = params is None or "s" in params
        self.updates_moves = params is None or "t" in params
        self.updates_emissions = params is None or bool(set(params) - set("st"))

    # --- the Model port ----------------------------------------------------------------------------------------------

    @by_size
    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The transitions' own start, and one M-step of the family from starting responsibilities of the rows."""
        sample, _ = balanced(sample)
        x, weight = _observed(sample)
        previous = self.family.start(x, weight, self.n_components)
        resp = covered(x, self._start(x, weight, self.n_components, rng))
        if weight is not None:
            resp = resp * weight[:, None]
        components = self.family.maximize(self.family.stats(previous, x, resp), previous)
        return self._assembled(components)

    def first_chain(self) -> dict[str, Array]:
        """Parameters before the first pass, by name, beside those of the emissions."""
        first = self.transitions.first()
        absorbing = np.zeros(self.n_components, dtype=np.bool_)
        return {"startprob": first.startprob, "transmat": first.transmat, "kept": absorbing}

    def anchor_only(self, sample: Chunk) -> Params | None:
        """The transitions' start and the family's `start`, whose anchor alone means something; None if it has none."""
        if not self.family.has_start:
            return None
        x, weight = _observed(sample)
        return self._assembled(self.family.start(x, weight, self.n_components))

    @by_size
    @small_buffers
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """Expected counts of a chunk, given what lies beyond it."""
        return expected(chunk, lambda chunk: self._expected(params, chunk, message))

    def _expected(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        steps = steps_of(chunk, message or ALONE)
        work = self._pass(params, chunk, steps, message, chunk.x.dtype)
        for first, stop, gamma in work.gammas(steps.weights):
            work.emissions.accumulate(first, stop, gamma)
        weight = weight_of_steps(chunk, steps)
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=work.sums.log_likelihood,
            rounding=weight * self._rounding(work) + far_rounding(work.emissions.kernel, work.sums.log_likelihood),
            startprob=work.sums.begun,
            transitions=work.sums.transitions,
            visits=work.sums.visits,
            components=work.emissions.stats(),
            **work.sums.others(),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Normalized expected counts; the family maximizes the rest. What `params` does not name stays."""
        startprob, transmat = previous.startprob, previous.transmat
        absorbing = np.zeros(self.n_components, dtype=np.bool_)
        components = previous.components
        if self.updates_start:
            startprob = self.transitions.maximize_start(stats.startprob, previous.startprob, self._share(stats))
        if self.updates_moves:
            moves = self.transitions.maximize_moves(stats.transitions, previous.transmat, self._share(stats))
            transmat, absorbing = moves.transmat, moves.absorbing
        if self.updates_emissions:
            components = self.family.maximize(self._components(stats), previous.components)
        return Params(startprob=startprob, transmat=transmat, kept=absorbing, components=components)

    def workspace_bytes(self, n_features: int) -> int:
        """The family's workspace, and what the recursions hold of a chunk that is one sequence."""
        rows = CHUNK_BYTES // (4 * n_features)
        own = 8 * rows * (2 * self.n_components + 8)
        return own + self.family.workspace_bytes(self.n_components, n_features)

    def statistics_bytes(self, n_features: int) -> int:
        """Expected counts and the family's statistics."""
        own = 8 * (self.n_components * (self.n_components + 2) + 4)
        return own + self.family.statistics_bytes(self.n_components, n_features)

    def products_a_row(self, n_features: int) -> float:
        """What a step costs; in NumPy the recursions cost more than their products."""
        return STEP_PRODUCTS + super().products_a_row(n_features)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the emissions run at these parameters on rows of `dtype`, in words."""
        return self.family.arithmetic(params.components, dtype)

    def shares(self, params: Params) -> Array:
        """Share of every state in the first 1024 steps of a sequence: (K,)."""
        sums, power = np.eye(self.n_components), np.asarray(params.transmat)
        for _ in range(10):  # Σ_{t < 2m} Aᵗ = Σ_{t < m} Aᵗ + A^m Σ_{t < m} Aᵗ
            sums, power = sums + power @ sums, power @ power
        shares = params.startprob @ sums
        return np.asarray(shares / shares.sum())

    def penalty(self, params: Params, stats: Stats) -> float:
        """The family's penalty and minus the log-density of the priors, in nats, or their share."""
        own = self._share(stats) * self.transitions.penalty(params.startprob, params.transmat)
        return own + super().penalty(params, stats)

    @property
    def has_prior(self) -> bool:
        """Whether the chain has."""
        return self.transitions.has_prior

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """The family's, in nats, where the M-step updates the emissions."""
        return super().shortfall(old, new, stats) if self.updates_emissions else 0.0

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """The family's interventions, and states that are never left."""
        found = dict(self.family.degenerate(params.components))
        if "kept" in params:
            found["never left"] = np.flatnonzero(params.kept).tolist()
        return found

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """What the family says."""
        return self.family.no_maximum(params.components, log_likelihood, weight)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Probabilities that are none, and what the family finds wrong."""
        if found := missing(params, ("startprob", "transmat", "kept", "components")):
            return found
        k = n_components
        found = shares("startprob", params.startprob, (k,)) + shares("transmat", params.transmat, (k, k))
        found += flags("kept", params.kept, (k,))
        return found + self._family_faults(params, k, n_features)

    # --- what a fitted model says of sequences -----------------------------------------------------------------------

    @by_size
    @small_buffers
    def posteriors(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """Probability of every state given the whole sequence, (n, K); NaN for padding."""
        out = np.full((chunk.rows, self.n_components), np.nan)
        steps = steps_of(chunk, message or ALONE)
        work = self._pass(params, chunk, steps, message, np.float64)
        for first, stop, gamma in work.gammas(np.ones(len(steps.spans))):
            out[first:stop] = gamma[:, : self.n_components]
        if steps.padding is not None:
            out[steps.padding] = np.nan
        return out

    def labels(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable state of every row by itself: (n,) int64; −1 for padding."""
        posteriors = self.posteriors(params, chunk, message)
        absent = np.isnan(posteriors[:, 0])
        return np.asarray(np.where(absent, -1, np.argmax(posteriors, axis=1)), dtype=np.int64)

    @by_size
    def imputed(
        self,
        params: Params,
        chunk: Chunk,
        message: Boundary | None = None,
        *,
        n_draws: int = 0,
        rng: np.random.RandomState | None = None,
    ) -> Array:
        """Steps with values in place of NaN, by each step's own posterior; padding stays. See `completed_rows`."""
        resp = self.posteriors(params, chunk, message)
        return completed_rows(self.family, params.components, chunk.x, resp, n_draws, rng)

    @by_size
    @small_buffers
    def path(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of states: (n,) int64; −1 for padding.

        The message is one for the question "path".
        """
        message = message or ALONE
        steps, chain = steps_of(chunk, message), _chain(params)
        emissions = self._emissions(params, chunk, steps, np.float64)
        out = np.full(chunk.rows, -1, dtype=np.int64)
        width, nothing = lanes_for(self.n_components), np.zeros(self.n_components)
        moves = filled_up(chain.log_transmat, width, width)
        for s, (first, stop) in enumerate(steps.spans.tolist()):
            if first == stop:
                continue
            entry = entry_of(chain, message.before, PATH) if s == 0 else chain.log_startprob
            last = s == len(steps.spans) - 1 and message.after is not None
            exit = np.asarray(message.after) if last else nothing
            log_prob = filled_up(emissions.log_prob(first, stop), width)
            enter, leave = filled_up(np.stack([entry, exit]), width)
            doubtful = bool(np.isnan(log_prob).any())
            if doubtful or not np.isfinite(kernels.paths(width).best(log_prob, enter, leave, moves, out[first:stop])):
                raise NumericalError(impossible(s, first, stop, emissions.log_prob(first, stop), emissions.overflows))
        return out

    def walk(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The path in all that a model tells apart: its states, and of a semi-Markov model their ages too."""
        return self.path(params, chunk, message)

    @property
    def n_substates(self) -> int:
        """How many numbers a `walk` tells apart."""
        return self.n_components

    def states_of(self, walk: Array) -> Array:
        """The path of states in a `walk`."""
        return walk

    def log_starts(self, params: Params, walk: Array) -> Array:
        """Log-probabilities of steps of a `walk` with which sequences begin."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params.startprob)[walk])

    @by_size
    @small_buffers
    def log_likelihood(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """rows, weight and weighted log-likelihood in nats."""
        steps = steps_of(chunk, message or ALONE)
        work = self._pass(params, chunk, steps, message, np.float64)
        for _ in work.gammas(steps.weights):
            pass
        weight = weight_of_steps(chunk, steps)
        return Stats(rows=chunk.rows, weight=weight, log_likelihood=work.sums.log_likelihood)

    def weight_of(self, chunk: Chunk) -> float:
        """Weight of all steps of a chunk."""
        return weight_of_steps(chunk, steps_of(chunk, ALONE))

    def log_moves(self, params: Params, chunk: Chunk, rows: Array, came: Array, went: Array) -> Array:
        """Log-probabilities of the transitions out of rows of a chunk, from the states `came` to the states `went`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.asarray(params.transmat)[came, went]))

    # --- sequences that are cut --------------------------------------------------------------------------------------

    def scans(self, params: Params, question: str) -> bool:
        """Whether pieces of a cut sequence should give their operators in any order; else they are asked in turn."""
        return ChainOperators.promising(_chain(params), question)

    @by_size
    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-probabilities, up to a constant, of the state at the last step, given `before`."""
        return self._operators(params, chunk, boundary).forward(question)

    @by_size
    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-likelihoods, up to a constant, of all steps and `after`, given the state before them."""
        return self._operators(params, chunk, boundary).backward(question)

    @by_size
    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """(K, K) the same for every state before the first step (rows) and at the last (columns).

        If it is to be affordable, None where the rows of many states do not soon agree.
        """
        return self._operators(params, chunk, ALONE).operator(question, affordable)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _operators(self, params: Params, chunk: Chunk, boundary: Boundary) -> ChainOperators:
        steps = steps_of(chunk, boundary)
        return ChainOperators(_chain(params), self._emissions(params, chunk, steps, np.float64), steps, boundary)

    def _pass(
        self, params: Params, chunk: Chunk, steps: Steps, message: Boundary | None, dtype: DTypeLike
    ) -> ChainPass:
        emissions = self._emissions(params, chunk, steps, dtype)
        rows = max(GROUP_ROWS, emissions.kernel.block_rows)
        return ChainPass(_chain(params), emissions, steps, message or ALONE, rows)

    def _emissions(self, params: Params, chunk: Chunk, steps: Steps, dtype: DTypeLike) -> Emissions:
        made = partial(kernel_of, self.family, params.components, self.n_components, dtype)
        return Emissions(reused_kernel(self, params, dtype, made), chunk.x, steps.missing, self.family.overflows)

    def _share(self, stats: Stats) -> float:
        """Which share of the data the statistics stand for, against which priors are weighed."""
        return 1.0 if self.total_weight is None else float(stats.weight) / self.total_weight

    def _rounding(self, work: ChainPass) -> float:
        """Rounding of the log-likelihood of one step: its densities, and K products and sums."""
        return work.emissions.kernel.rounding + 4 * (self.n_components + 4) * EPS

    def _assembled(self, components: Any) -> Params:
        return Params(**self.first_chain(), components=components)


def _chain(params: Params) -> Chain:
    return Chain.of(np.asarray(params.startprob), np.asarray(params.transmat))


def weight_of_steps(chunk: Chunk, steps: Steps) -> float:
    """Weight of all steps; padding has none."""
    counted = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
    return float(counted.sum() if steps.padding is None else counted[~steps.padding].sum())


def _observed(sample: Chunk) -> tuple[Array, Array | None]:
    """The rows of a sample that have values, and their weights."""
    seen = observed(sample)
    if sample.rows and not seen.rows:
        raise ParameterError(
            "every row of the sample is missing; a model cannot start from that: pass steps that have values"
        )
    return seen.x, seen.weight
