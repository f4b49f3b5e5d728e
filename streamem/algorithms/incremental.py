"""Incremental EM: an M-step after each block, whose old statistics are exchanged for new (Neal & Hinton 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from streamem.algorithms.stepwise import rebased, remember, weight_of
from streamem.core.arrays import Params
from streamem.core.errors import MemoryLimitError, ParameterError
from streamem.core.ports import Algorithm, ChunkRef, Limits, Model, StoppingRule, Variant
from streamem.core.row_selection import RowSelection, Selection, n_units
from streamem.core.state import State
from streamem.core.stats import Stats

BLOCKS = 32


@dataclass(frozen=True)
class IncrementalEM(Variant):
    """S ← S − s_old + s_new block by block, θ ← M(S): no step size, and the free energy never falls.

    The first pass fills the memory, so that it is one iteration of batch EM; afterwards every block makes an M-step.

    Parameters
    ----------
    blocks : how many; each is remembered by its statistics. None is 32, or fewer where memory or rows ask for it
    stopping : when it has converged, judged once a pass; None lets the estimator choose
    max_iter : most passes; None lets the estimator choose

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import IncrementalEM
    >>> rows = np.concatenate([np.zeros(60), np.full(60, 9.0)])[:, None] + np.linspace(0, 1, 120)[:, None]
    >>> gm = GaussianMixture(2, random_state=0)
    >>> sorted(gm.fit(rows, algorithm=IncrementalEM()).means_.ravel().round(1).tolist())
    [0.2, 9.8]
    """

    blocks: int | None = None
    stopping: StoppingRule | None = None
    max_iter: int | None = None

    name = "incremental"

    def __post_init__(self) -> None:
        if self.blocks is not None and (not isinstance(self.blocks, int) or self.blocks < 1 or self.blocks is True):
            raise ParameterError(f"blocks of IncrementalEM is {self.blocks!r}; it must be an integer >= 1")

    def with_stopping(self, rule: StoppingRule) -> IncrementalEM:
        """This algorithm with a stopping rule, unless the user gave one."""
        return replace(self, stopping=rule) if self.stopping is None else self

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> PlannedIncremental:
        """The blocks of these chunks.

        Raises
        ------
        MemoryLimitError : the statistics of so many blocks take more than the budget
        """
        rows = sum(ref.rows for ref in refs)
        held = max(1, limits.open_bytes // max(1, limits.statistics_bytes))
        blocks = self.blocks or max(1, min(BLOCKS, held, rows // max(1, limits.least_rows)))
        if blocks > held:
            raise MemoryLimitError(
                f"the statistics of {blocks} blocks take {blocks} × {limits.statistics_bytes} bytes, and "
                f"{limits.open_bytes} are allowed: use up to {held} blocks, or raise the memory limit"
            )
        cut = tuple(_cut(refs, min(blocks, max(1, rows))))
        max_iter = limits.max_iter if self.max_iter is None else self.max_iter
        return PlannedIncremental(cut, self.stopping, max_iter)


@dataclass(frozen=True)
class _Block:
    """Some chunks (first … stop − 1), or rows `draw` of the only one."""

    first: int
    stop: int
    draw: Selection | None = None

    def refs(self, refs: Sequence[ChunkRef]) -> list[ChunkRef]:
        """The handles."""
        chunks = list(refs[self.first : self.stop])
        return chunks if self.draw is None else [RowSelection((chunks[0],), (self.draw,))]


def _cut(refs: Sequence[ChunkRef], blocks: int) -> list[_Block]:
    """Runs of chunks where there are enough of them; else parts of each."""
    if len(refs) >= blocks:
        bounds = [b * len(refs) // blocks for b in range(blocks + 1)]
        return [_Block(first, stop) for first, stop in pairwise(bounds)]
    found = []
    for i, ref in enumerate(refs):
        units = n_units(ref)
        parts = min(units, -(-blocks // len(refs)))
        bounds = [b * units // parts for b in range(parts + 1)]
        found += [_Block(i, i + 1, Selection(first, stop)) for first, stop in pairwise(bounds)]
    return found


@dataclass(frozen=True)
class PlannedIncremental(Algorithm):
    """Incremental EM over given blocks: an `Algorithm`.

    `State.memory` holds ``total`` (S), ``blocks`` (the statistics of each block, b0, b1, …) and ``visits``. The trace
    holds one value a pass: the log-likelihoods of the blocks, each under the parameters that it met.

    Parameters
    ----------
    stopping, max_iter : as for `BatchEM`, counted in passes
    """

    blocks: tuple[_Block, ...]
    stopping: StoppingRule | None
    max_iter: int

    def start(self, params: Params) -> State:
        """The state before the first block."""
        return State(params=params, closing=self.max_iter == 0)

    def resume(self, state: State) -> State:
        """Go on from an ended run with an empty memory."""
        return replace(self.start(state.params), trace=state.trace)

    def reopen(self, state: State) -> State:
        """An ended run has given up its memory of blocks, so it stays ended."""
        return state

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The next block; at the end, all chunks."""
        if state.finished:
            return ()
        if state.closing:
            return refs
        visits = 0 if state.memory is None else int(state.memory.visits)
        return self.blocks[visits % len(self.blocks)].refs(refs)

    def pass_kind(self, before: State, after: State) -> str:
        """ "incremental"; "plain" of the pass that ends the run."""
        return "plain" if before.closing else "incremental"

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """Exchange the block's statistics, then one M-step."""
        if state.closing:
            weight = weight_of(stats)
            known = replace(state, log_likelihood=float(stats.log_likelihood) / weight, rows=int(stats.rows))
            return remember(replace(known, weight=weight), stats)
        visits = 0 if state.memory is None else int(state.memory.visits)
        known_blocks = {} if state.memory is None else dict(state.memory.blocks.items())
        name = f"b{visits % len(self.blocks)}"
        total = stats if state.memory is None else state.memory.total + stats
        if name in known_blocks:
            total = total - known_blocks[name]
        known_blocks[name] = stats
        return self._moved(model, state, total, known_blocks, visits + 1)

    def _moved(self, model: Model, state: State, total: Stats, blocks: dict[str, Stats], visits: int) -> State:
        over = visits % len(self.blocks) == 0
        if over:  # what adding and subtracting has rounded away comes back
            total = sum((blocks[f"b{i}"] for i in range(1, len(blocks))), start=blocks["b0"])
        # Not before every block is known: a few of sorted data would pull every component to themselves.
        filled = visits >= len(self.blocks) and float(total.weight) > 0
        params = model.m_step(total, state.params) if filled else state.params
        moved = {name: rebased(model, block, state.params, params) for name, block in blocks.items()}
        memory = Stats(total=rebased(model, total, state.params, params), blocks=Stats(**moved), visits=visits)
        iteration = state.iteration + int(filled)
        after = replace(state, params=params, iteration=iteration, memory=memory, log_likelihood=None)
        return self._judged(after, total, visits) if over else after

    def _judged(self, state: State, total: Stats, visits: int) -> State:
        trace = (*state.trace, float(total.log_likelihood) / weight_of(total))
        converged = self.stopping is not None and self.stopping.met(trace)
        ended = converged or visits >= self.max_iter * len(self.blocks)
        seen = replace(state, trace=trace, rows=int(total.rows), weight=float(total.weight))
        return replace(seen, closing=ended, converged=converged, memory=None if ended else state.memory)
