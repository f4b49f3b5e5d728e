"""The hidden Markov model whose transitions depend on covariates of the steps (input–output HMM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary, Endings
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError
from streamem.core.extremes import expected, far_rounding
from streamem.core.faults import flags, missing, shares
from streamem.core.numerics import EPS, small_buffers
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.machine.lanes import lanes_for
from streamem.models.by_size import by_size
from streamem.models.chain_operators import CHEAP
from streamem.models.driven_pass import SEGMENT_NUMBERS, Drive, DrivenOperators, DrivenPass, best_states
from streamem.models.hmm import ALONE, CHUNK_BYTES, HMM, Responsibilities, weight_of_steps
from streamem.models.logit_moves import (
    box_of_covariates,
    design,
    hidden,
    log_moves,
    maximized,
    plausible,
    require_varying,
)
from streamem.models.steps import Steps, steps_of

Array = NDArray[Any]


class DrivenHMM(HMM):
    """A hidden Markov model in which the transition from step t to t + 1 depends on covariates u_t of step t.

    log A_t[i, j] = α_ij + β_ij·u_t − log Σ_j exp(α_ij + β_ij·u_t), as in R's depmixS4 (Visser & Speekenbrink 2010) and
    Bengio & Frasconi 1995; see `logit_moves` for the M-step.

    Parameters
    ----------
    family, n_components, start, startprob_prior, startprob_init, params, total_weight : see `HMM`
    n_covariates : p, columns of `Chunk.covariates`
    box : (2, p) smallest and largest covariates of all data, or None for those of the sample of the start
    moves_init : intercept (K, K) and coef (K, K, p) to start from, in units of the data, or None for 0: all transitions
        are equally probable

    Notes
    -----
    Parameters: startprob (K,), logits (K, K, 1 + p), box (2, p), kept (K,), components. Statistics: startprob (K,),
    visits (K,), transitions (K, K), curvature (K, K(1 + p), K(1 + p)) and target (K, K(1 + p)), components.
    """

    jumps = False
    """Whether transitions are those between different states only."""

    def __init__(
        self,
        family: Family,
        n_components: int,
        start: Responsibilities,
        n_covariates: int,
        box: Array | None = None,
        startprob_prior: ArrayLike = 1.0,
        startprob_init: ArrayLike | None = None,
        moves_init: Params | None = None,
        params: str | None = None,
        total_weight: float | None = None,
    ) -> None:
        super().__init__(
            family,
            n_components,
            start,
            startprob_prior=startprob_prior,
            startprob_init=startprob_init,
            params=params,
            total_weight=total_weight,
        )
        self.n_covariates, self._box, self._moves_init = n_covariates, box, moves_init

    # --- the Model port ----------------------------------------------------------------------------------------------

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The first transitions, about the box of the covariates, and the first emissions as of `HMM`."""
        return self.driven(super().init(sample, rng), sample)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """The first transitions, and the family's `start`; None if it has none."""
        found = super().anchor_only(sample)
        return None if found is None else self.driven(found, sample)

    def driven(self, params: Params, sample: Chunk) -> Params:
        """Parameters of an `HMM` with the first logits in place of its matrix.

        Raises
        ------
        DegenerateDataError : a covariate that is constant in all data
        """
        box = self._box
        if box is None:
            box = box_of_covariates(sample)
        else:
            require_varying(box, "transitions", "step")
        k, p = self.n_components, self.n_covariates
        first, logits = self._moves_init, np.zeros((k, k, 1 + p))
        if first is not None:
            logits = hidden(np.asarray(first.intercept), np.asarray(first.coef), box)
        return Params(
            startprob=params.startprob, logits=logits, box=box, kept=params.kept, components=params.components
        )

    @by_size
    @small_buffers
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """Expected counts of a chunk, and the expansion of the transitions, given what lies beyond it."""
        return expected(chunk, lambda chunk: self._expected(params, chunk, message))

    def _expected(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        steps = steps_of(chunk, message or ALONE)
        work = self._driven_pass(params, chunk, steps, message, chunk.x.dtype)
        visits = np.zeros(lanes_for(self.n_components))
        for first, stop, gamma in work.gammas(steps.weights):
            work.emissions.accumulate(first, stop, gamma)
            visits += gamma.sum(axis=0)
        weight = weight_of_steps(chunk, steps)
        found = work.moves.stats()
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=work.log_likelihood,
            rounding=weight * self._log_rounding(work) + far_rounding(work.emissions.kernel, work.log_likelihood),
            startprob=work.begun,
            visits=visits[: self.n_components],
            transitions=found.transitions,
            curvature=found.curvature,
            target=found.target,
            components=work.emissions.stats(),
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Normalized expected counts, a safe step of Newton's method for the logits, and the family's maximum."""
        startprob, logits = previous.startprob, previous.logits
        kept = np.zeros(self.n_components, dtype=np.bool_)
        components = previous.components
        if self.updates_start:
            startprob = self.transitions.maximize_start(stats.startprob, previous.startprob, self._share(stats))
        if self.updates_moves:
            logits, kept = maximized(stats, np.asarray(previous.logits))
        if self.updates_emissions:
            components = self.family.maximize(self._components(stats), previous.components)
        return Params(startprob=startprob, logits=logits, box=previous.box, kept=kept, components=components)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Counts as counts; the last expansion where the curvature of the extrapolated one is not such."""
        beside = {name: valid[name] for name in ("curvature", "target")}
        found = super().project(stats.replace(**beside), valid, previous)
        return found.replace(**plausible(stats, valid))

    def workspace_bytes(self, n_features: int) -> int:
        """Densities, α and β of a chunk that is one sequence, and the transitions of a segment."""
        return super().workspace_bytes(n_features) + 8 * (
            CHUNK_BYTES // (4 * n_features) * (self.n_components + 1 + self.n_covariates) + 8 * SEGMENT_NUMBERS
        )

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics of `HMM`, and of the expansion."""
        width = self.n_components * (1 + self.n_covariates)
        return super().statistics_bytes(n_features) + 8 * self.n_components * width * (width + 1)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def shares(self, params: Params) -> Array:
        """Share of every state in the first 1024 steps of a sequence with covariates in the middle of their box."""
        middle = np.zeros((1, 1 + self.n_covariates))
        middle[0, 0] = 1.0
        return super().shares(
            params.replace(transmat=np.exp(log_moves(np.asarray(params.logits), middle, self.jumps)[0]))
        )

    def penalty(self, params: Params, stats: Stats) -> float:
        """The family's penalty and that of the first states, in nats, or their share."""
        k = self.n_components
        return super().penalty(params.replace(transmat=np.full((k, k), 1 / k)), stats)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Probabilities that are none, logits of other shapes, and what the family finds wrong."""
        if found := missing(params, ("startprob", "logits", "box", "kept", "components")):
            return found
        k, p = n_components, self.n_covariates
        found = shares("startprob", params.startprob, (k,)) + flags("kept", params.kept, (k,))
        for name, shape in (("logits", (k, k, 1 + p)), ("box", (2, p))):
            value = np.asarray(params[name])
            if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
                found.append(f"{name} is an array {value.shape} of {value.dtype}; finite numbers {shape} are needed")
        return found + self._family_faults(params, k, n_features)

    # --- what a fitted model says of sequences -----------------------------------------------------------------------

    @by_size
    @small_buffers
    def posteriors(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """Probability of every state given the whole sequence, (n, K); NaN for padding."""
        out = np.full((chunk.rows, self.n_components), np.nan)
        steps = steps_of(chunk, message or ALONE)
        work = self._driven_pass(params, chunk, steps, message, np.float64)
        for first, stop, gamma in work.gammas(np.ones(len(steps.spans))):
            out[first:stop] = gamma[:, : self.n_components]
        if steps.padding is not None:
            out[steps.padding] = np.nan
        return out

    @by_size
    @small_buffers
    def path(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """The most probable sequence of states: (n,) int64; −1 for padding."""
        message = message or ALONE
        steps = steps_of(chunk, message)
        drive, emissions = self._drive(params, chunk, steps), self._emissions(params, chunk, steps, np.float64)
        out = np.full(chunk.rows, -1, dtype=np.int64)
        for s, (first, stop) in enumerate(steps.spans.tolist()):
            if first == stop:
                continue
            entry = message.before if s == 0 and message.before is not None else drive.log_startprob
            after = message.after if s == len(steps.spans) - 1 else None
            out[first:stop] = best_states(drive, emissions, first, stop, np.asarray(entry), after, s)
        return out

    @by_size
    @small_buffers
    def log_likelihood(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """rows, weight and weighted log-likelihood in nats."""
        steps = steps_of(chunk, message or ALONE)
        work = self._driven_pass(params, chunk, steps, message, np.float64)
        next(iter(work.gammas(steps.weights)), None)  # the way forward tells it
        return Stats(rows=chunk.rows, weight=weight_of_steps(chunk, steps), log_likelihood=work.log_likelihood)

    def log_moves(self, params: Params, chunk: Chunk, rows: Array, came: Array, went: Array) -> Array:
        """Log-probabilities of transitions out of rows of a chunk, from states to states."""
        u = design(self._covariates(chunk)[rows], np.asarray(params.box))
        return np.asarray(log_moves(np.asarray(params.logits), u, self.jumps)[np.arange(len(u)), came, went])

    # --- sequences that are cut --------------------------------------------------------------------------------------

    def scans(self, params: Params, question: str) -> bool:
        """Whether pieces give their operators, which cost K³ a step."""
        return self.n_components <= CHEAP

    @by_size
    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-probabilities, up to a constant, of the state at the first step after the chunk, given `before`."""
        return self._driven_operators(params, chunk, boundary).forward(question)

    @by_size
    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) log-likelihoods, up to a constant, of all steps and `after`, given the state at the first step."""
        return self._driven_operators(params, chunk, boundary).backward(question)

    @by_size
    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """(K, K) of the state at the first step after the chunk (columns), given that at its first (rows)."""
        return self._driven_operators(params, chunk, ALONE).operator(question)

    def endings(self, params: Params, chunk: Chunk, before: Array | None) -> Endings:
        """Each of K states of the step that comes next."""
        return replace(super().endings(params, chunk, before), ahead=True)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _driven_operators(self, params: Params, chunk: Chunk, boundary: Boundary) -> DrivenOperators:
        steps = steps_of(chunk, boundary)
        emissions = self._emissions(params, chunk, steps, np.float64)
        return DrivenOperators(self._drive(params, chunk, steps), emissions, steps, boundary)

    def _driven_pass(
        self, params: Params, chunk: Chunk, steps: Steps, message: Boundary | None, dtype: Any
    ) -> DrivenPass:
        emissions = self._emissions(params, chunk, steps, dtype)
        return DrivenPass(self._drive(params, chunk, steps), emissions, steps, message or ALONE)

    def _drive(self, params: Params, chunk: Chunk, steps: Steps) -> Drive:
        rows = design(self._covariates(chunk), np.asarray(params.box))
        if steps.padding is not None:
            rows[steps.padding] = 0.0
        if not np.isfinite(rows).all():
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise DataError(
                f"row {row} of the chunk has covariates that are not finite, and steps of its sequence follow: every "
                "step needs its covariates, also where nothing else was observed"
            )
        with np.errstate(divide="ignore"):
            return Drive(np.log(np.asarray(params.startprob)), np.asarray(params.logits), rows, self.jumps)

    def _covariates(self, chunk: Chunk) -> Array:
        found = chunk.covariates
        if found is None and not chunk.rows:
            return np.empty((0, self.n_covariates))
        if found is None or found.shape[1] != self.n_covariates:
            has = 0 if found is None else found.shape[1]
            raise ParameterError(
                f"the transitions depend on {self.n_covariates} covariates, and the chunk has {has}: open the data "
                "with covariates="
            )
        return found

    def _log_rounding(self, work: DrivenPass) -> float:
        """Rounding of the log-likelihood of one step: its densities, and K sums of K exponentials."""
        return work.emissions.kernel.rounding + 16 * (self.n_components + 4) * EPS


def require_moves(given: Mapping[str, Any], k: int, p: int) -> Params:
    """intercept and coef as given, for K states and p covariates.

    Raises
    ------
    ParameterError : other shapes, or numbers that are not finite
    """
    shapes = {"intercept": (k, k), "coef": (k, k, p)}
    found = {}
    for name, shape in shapes.items():
        try:
            value = np.array(given[name], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"transition_{name}_ must hold numbers {shape} ({error})") from None
        if value.shape != shape or not np.isfinite(value).all():
            raise ParameterError(
                f"transition_{name}_ has shape {value.shape}; finite numbers {shape} are needed: of states, states to "
                "come" + (", covariates" if name == "coef" else "")
            )
        found[name] = value
    return Params(**found)
