"""What accelerated EM variants share: proposals beyond an EM step, and the rule by which each is kept or turned down.

An E-step returns the log-likelihood of the parameters that enter it, so that the pass which goes on from a proposal
also judges it: a proposal that is kept costs nothing beyond the pass that plain EM would have made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from streamem.algorithms.batch import require_no_fall
from streamem.algorithms.stepwise import rebased, remember, weight_of
from streamem.core.arrays import Params
from streamem.core.ascent import permitted_fall
from streamem.core.errors import ParameterError
from streamem.core.ports import REJECTED, Algorithm, ChunkRef, Limits, Model, StoppingRule
from streamem.core.state import State
from streamem.core.stats import Stats

PLAIN, EXTRAPOLATED = "plain", "extrapolated"

OF_NO_ROWS = ArithmeticError, ValueError, LookupError, AssertionError, RuntimeError
"""Errors of an M-step, a user's own too, that statistics may cause which no rows gave."""

FORESEEN = 4
"""Plain steps that are foreseen when it is asked whether the stopping rule would end the run after them."""

JUDGED = 3
"""Log-likelihoods of plain steps that tell how gains shrink; from then on, a foreseen end must draw near."""


class Pair(NamedTuple):
    """Statistics s, and those of the EM step from them: the E-step at M(s)."""

    point: Stats
    image: Stats


class Proposal(NamedTuple):
    """What a variant makes of the last pairs.

    Attributes
    ----------
    stats : to try next; None for a plain EM step
    own : the scalars of the variant
    """

    stats: Stats | None
    own: Stats


@dataclass(frozen=True)
class Accelerated(Algorithm):
    """EM over all rows with extrapolated statistics, none of which is kept unless it raises the objective.

    Statistics are the weighted sums of one pass: the weight of all rows is the same in each, so that they differ from
    means by one factor. The last M-step is one of plain EM, and so are those that the stopping rule judges.

    Parameters
    ----------
    stopping : when it has converged, judged on the log-likelihoods of consecutive plain EM steps only
    max_iter : most M-steps of one call, without those that were turned down
    slack : nats of the log-likelihood of all rows that a proposal may lose and be kept all the same
        0 never lets it fall. On long slopes that bend, 1 (``objfn.inc`` of turboEM) saves up to four fifths of the
        passes; the trace then falls here and there, and a run that `max_iter` ends may end so much lower.

    Notes
    -----
    `State.memory` holds ``own`` (scalars of the variant), ``plain`` (how many of the last values of the trace are those
    of consecutive plain steps), ``pairs`` (p0, p1, …, oldest first) and ``point`` (the statistics that gave the present
    parameters); and while a proposal waits for its verdict, ``objective`` (what it must reach), ``fallback`` (the
    parameters of the plain step) and ``allowance``.
    """

    stopping: StoppingRule
    max_iter: int
    slack: float = 0.0

    sees_all_rows = True
    n_pairs: ClassVar[int]
    """Pairs that a variant reads at most."""
    forgets: ClassVar[bool]
    """Whether it reads only pairs of consecutive EM steps, so that those before a proposal say nothing any more."""

    def __post_init__(self) -> None:
        if not 0 <= self.slack < np.inf:
            raise ParameterError(f"slack is {self.slack!r}; it must be nats >= 0 that a step may lose")

    @property
    def key(self) -> str:
        """What identifies it: when the run ends is no part of it."""
        return f"{self.name}, slack {self.slack!r}" if self.slack else self.name

    # --- what a variant says -----------------------------------------------------------------------------------------

    @abstractmethod
    def fresh(self) -> Stats:
        """The scalars that the variant begins with, one of them ``rate``.

        The share of its distance to the optimum that a plain step leaves, 0 … 1; 1 as long as nobody knows.
        """

    @abstractmethod
    def proposal(self, own: Stats, pairs: Sequence[Pair]) -> Proposal:
        """What to try after these pairs, of which there is at least one, newest last."""

    @abstractmethod
    def after_verdict(self, own: Stats, kept: bool) -> Stats:
        """The scalars of the variant after its proposal was kept, or turned down."""

    # --- the Algorithm port ------------------------------------------------------------------------------------------

    def open_bytes(self, refs: Sequence[ChunkRef], limits: Limits) -> int:
        """The remembered statistics, a proposal, and parameters as large as two."""
        return (2 * self.n_pairs + 4) * limits.statistics_bytes

    def start(self, params: Params) -> State:
        """The state before the first pass."""
        return State(params=params, closing=self.max_iter == 0, memory=_memory(self.fresh()))

    def resume(self, state: State) -> State:
        """Go on from an ended run: the trace is kept."""
        return replace(self.start(state.params), trace=state.trace)

    def reopen(self, state: State) -> State:
        """Undo the ending of a run that stopped at a smaller `max_iter` or a larger tolerance.

        What the run had remembered is gone where the last pass has been made.
        """
        if not state.closing or state.iteration >= self.max_iter or (state.converged and self._met(state)):
            return state
        memory = state.memory if accelerates(state) else _memory(self.fresh())
        return replace(state, closing=False, converged=False, log_likelihood=None, memory=memory)

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """All chunks, until the final log-likelihood is known."""
        return () if state.finished else refs

    def pass_kind(self, before: State, after: State) -> str:
        """ "plain", "extrapolated" or "rejected": where the parameters of a pass came from, and whether they stay."""
        if not _waits(before):
            return PLAIN
        return REJECTED if len(after.trace) == len(before.trace) else EXTRAPOLATED

    def withdrawn(self, model: Model, state: State) -> State | None:
        """The plain EM step in place of a proposal."""
        if not _waits(state):
            return None
        memory = _held(state)
        params = _as_params(memory.fallback, state.params)
        pairs, own = _pairs(memory), self.after_verdict(memory.own, kept=False)
        point = pairs[-1].image
        plain = replace(
            state,
            params=params,
            allowance=float(memory.allowance),
            memory=_memory(own, memory.plain, [] if self.forgets else pairs, point),
        )
        return _moved(model, plain, state.params)

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """Judge what was proposed; then an M-step, or the next proposal. When closing, only note the log-likelihood."""
        weight = weight_of(stats)
        log_likelihood, rounding = float(stats.log_likelihood) / weight, float(stats.rounding) / weight
        seen = replace(state, rows=int(stats.rows), weight=weight)
        if _waits(state):
            if not self._rises(model, state, stats, log_likelihood):
                withdrawn = self.withdrawn(model, seen)
                assert withdrawn is not None
                return withdrawn
            seen = self._kept(seen)
        else:
            require_no_fall(state, log_likelihood, rounding)
        if state.closing:
            return remember(replace(seen, log_likelihood=log_likelihood), stats)
        return self._stepped(model, _noted(seen, log_likelihood), stats, rounding)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _rises(self, model: Model, state: State, stats: Stats, log_likelihood: float) -> bool:
        least = float(_held(state).objective) - self.slack / weight_of(stats)
        return bool(np.isfinite(log_likelihood)) and objective(model, state.params, stats) >= least

    def _kept(self, state: State) -> State:
        """The state in which the proposal counts as the last iterate."""
        memory = _held(state)
        own = self.after_verdict(memory.own, kept=True)
        pairs = [] if self.forgets else _pairs(memory)
        return replace(state, memory=_memory(own, 0.0, pairs, memory.point))

    def _stepped(self, model: Model, state: State, stats: Stats, rounding: float) -> State:
        """A plain M-step, or in its place a proposal that the next pass judges."""
        memory, converged = _held(state), self._met(state)
        params = model.m_step(stats, state.params)
        closing = converged or state.iteration + 1 >= self.max_iter
        pairs = _pairs(memory) + ([Pair(memory.point, stats)] if "point" in memory else [])
        pairs, own = pairs[-self.n_pairs :], memory.own
        plain = replace(
            state,
            params=params,
            iteration=state.iteration + 1,
            allowance=rounding + permitted_fall(model, state.params, params, stats) / state.weight,
            closing=closing,
            converged=converged,
        )
        if pairs and not closing and not self._would_end(state):
            proposal = self.proposal(own, pairs)
            own = proposal.own
            if proposal.stats is not None:
                tried = _tried(model, state, plain, pairs, proposal)
                if tried is not None:
                    return tried
                own = self.after_verdict(own, kept=False)
        return _moved(model, replace(plain, memory=_memory(own, memory.plain, pairs, stats)), state.params)

    def _met(self, state: State) -> bool:
        plain = int(_held(state).plain) if accelerates(state) else len(state.trace)
        return plain > 0 and self.stopping.met(state.trace[-plain:])

    def _would_end(self, state: State) -> bool:
        """Whether the stopping rule would end the run after a few plain steps, if gains go on shrinking as foreseen.

        Where they shrink ever more slowly, the end always seems near: with each plain step fewer are foreseen.
        """
        plain = int(_held(state).plain)
        if state.iteration < 1:  # of this call, or phase, only one log-likelihood is known
            return False
        foreseen = list(state.trace[-max(plain, 2) :])
        gain, share = foreseen[-1] - foreseen[-2], float(_held(state).own.rate) ** 2  # gains are of second order
        if plain > 2 and (before := foreseen[-2] - foreseen[-3]) > 0:
            share = min(max(gain / before, 0.0), 1.0)
        for _ in range(FORESEEN - max(0, plain - JUDGED)):
            gain *= share
            foreseen.append(foreseen[-1] + gain)
        return self.stopping.met(foreseen)


def accelerates(state: State) -> bool:
    """Whether the memory of a state is that of an accelerated run."""
    return state.memory is not None and "own" in state.memory


def objective(model: Model, params: Params, stats: Stats) -> float:
    """The log-likelihood minus the penalty of the M-step, in nats per unit of weight."""
    return (float(stats.log_likelihood) - model.penalty(params, stats)) / weight_of(stats)


def _held(state: State) -> Stats:
    assert state.memory is not None
    return state.memory


def _waits(state: State) -> bool:
    """Whether the parameters are a proposal without a verdict."""
    return state.memory is not None and "fallback" in state.memory


def _memory(own: Stats, plain: Any = 0.0, pairs: Sequence[Pair] = (), point: Stats | None = None, **more: Any) -> Stats:
    held = Stats(**{f"p{i}": Stats(point=pair.point, image=pair.image) for i, pair in enumerate(pairs)})
    present = {} if point is None else {"point": point}
    return (
        Stats(own=own, plain=plain, pairs=held, **present, **more)
        if pairs
        else Stats(own=own, plain=plain, **present, **more)
    )


def _pairs(memory: Stats) -> list[Pair]:
    held = memory.pairs if "pairs" in memory else {}
    return [Pair(held[f"p{i}"].point, held[f"p{i}"].image) for i in range(len(held))]


def _noted(state: State, log_likelihood: float) -> State:
    """The state that knows the log-likelihood of its parameters."""
    memory = _held(state).replace(plain=float(_held(state).plain) + 1.0)
    return replace(state, trace=(*state.trace, log_likelihood), memory=memory)


def _moved(model: Model, state: State, old: Params) -> State:
    """The state whose remembered statistics, taken at `old`, are as if they had been taken at its parameters."""
    memory = _held(state)
    pairs = [Pair(*(rebased(model, stats, old, state.params) for stats in pair)) for pair in _pairs(memory)]
    own = {name: memory[name] for name in ("objective", "fallback", "allowance") if name in memory}
    point = rebased(model, memory.point, old, state.params)
    return replace(state, memory=_memory(memory.own, memory.plain, pairs, point, **own))


def _tried(model: Model, before: State, plain: State, pairs: Sequence[Pair], proposal: Proposal) -> State | None:
    """The state whose next pass judges the proposal; None where no M-step can take it."""
    stats, params = pairs[-1].image, None
    assert proposal.stats is not None
    with np.errstate(all="ignore"):
        try:
            point = model.project(proposal.stats, stats, before.params)
            params = model.m_step(point, before.params)
        except OF_NO_ROWS:
            return None
        if not _sound(model, params, plain.params):
            return None
    memory = _memory(
        proposal.own,
        _held(before).plain,
        pairs,
        point,
        objective=objective(model, before.params, stats),
        fallback=Stats.unflatten(plain.params.flatten()),
        allowance=plain.allowance,
    )
    return _moved(model, replace(plain, params=params, memory=memory), before.params)


def _sound(model: Model, params: Params, plain: Params) -> bool:
    """Whether parameters are finite where those of the plain step are, and no more components have degenerated."""
    ours, theirs = params.flatten(), plain.flatten()
    if ours.keys() != theirs.keys() or any(ours[name].shape != value.shape for name, value in theirs.items()):
        return False
    finite = all(np.isfinite(ours[name][np.isfinite(value)]).all() for name, value in theirs.items())
    known = model.degenerate(plain)
    return finite and all(set(found) <= set(known.get(kind, ())) for kind, found in model.degenerate(params).items())


def _as_params(held: Stats, like: Params) -> Params:
    """Parameters that were remembered among statistics, with the types that they had."""
    types = {name: value.dtype for name, value in like.flatten().items()}
    return Params.unflatten({name: value.astype(types[name]) for name, value in held.flatten().items()})
