"""Online EM along one sequence that never ends: statistics that know where the chain stands (Cappé 2011).

What the steps so far tell is kept once for every state in which the last step may be, ρ(k) = E[Ŝ | z_T = k, x_1 … x_T].
A block of further steps mixes these by where its first step may have come from, and adds its own statistics, smoothed
within the block for every state at its end. As long as the parameters stay, Σ_k P(z_T = k)·ρ(k) is exactly what a pass
over the whole sequence would give; Cappé's recursion (2011, J. Comput. Graph. Stat. 20, §2.3) is a block of one step.
Of a state that is a vector, the model names a few endings instead, which tell what statistics are for all
(`Model.endings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from streamem.algorithms import StepwiseEM, rebased
from streamem.core.arrays import Params
from streamem.core.boundary import Boundary, Endings
from streamem.core.chunk import Chunk
from streamem.core.ports import Model
from streamem.core.state import State
from streamem.core.stats import Stats

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Block:
    """What a block of steps contributes under fixed parameters.

    Attributes
    ----------
    stats : expected statistics of the block, with its log-likelihood given all that came before
    endings : what its last step may be
    known : the statistics given each ending; None where that is impossible
    """

    stats: Stats
    endings: Endings
    known: tuple[Stats | None, ...]

    def blended(self, past: Sequence[Stats], gamma: float) -> tuple[Stats, list[Stats]]:
        """(1 − γ) of what was known and γ of the block, per unit of weight: of all, and given each ending.

        A transition to the step that comes next counts given that ending, and in nothing else: no step has shown it.
        """
        weight = float(self.stats.weight)
        mixed, known = [_mean(past, self.endings.came[:, j]) for j in range(len(self.known))], []
        for before, own in zip(mixed, self.known, strict=True):
            known.append(before if own is None or gamma == 0 else before * (1.0 - gamma) + own * (gamma / weight))
        if gamma == 0 or not self.endings.ahead:
            return _mean(known, self.endings.shares), known
        return _mean(mixed, self.endings.shares) * (1.0 - gamma) + self.stats * (gamma / weight), known


def read_block(model: Model, params: Params, chunk: Chunk, before: Array | None) -> Block:
    """Ask the model of a chunk that is one sequence, or the next steps of one.

    Parameters
    ----------
    before : message about the state at the step before, or None where the sequence begins

    Notes
    -----
    One E-step for each ending, and one more.
    """
    stats = model.e_step(params, chunk, Boundary(before=before))
    endings = model.endings(params, chunk, before)
    known = tuple(
        None if after is None else model.e_step(params, chunk, Boundary(before, after)) for after in endings.after
    )
    return Block(stats, endings, known)


def go_on(rule: StepwiseEM, model: Any, state: State, chunk: Chunk) -> State:
    """The state after a step with a chunk that goes on where the one before ended, or begins the sequence.

    `State.memory` holds ``endless``: filtered, and past (s0, s1, … for each ending).
    """
    known = state.memory.endless if state.memory is not None and "endless" in state.memory else None
    block = read_block(model, state.params, chunk, None if known is None else known.filtered)
    running = block.stats * 0.0 if state.memory is None else state.memory.running
    j = len(block.known)
    past = [running] * j if known is None else [known.past[f"s{i}"] for i in range(j)]
    after: list[Stats] = []

    def blended(gamma: float) -> Stats:
        total, after[:] = block.blended(past, gamma)
        return total

    if float(block.stats.weight) == 0:  # where the chain stands is all that is learned
        running = blended(0.0)
        moved = rule.update(model, state, block.stats)
        if moved.memory is not None:
            moved = replace(moved, memory=moved.memory.replace(running=running))
    elif state.memory is None:
        blended(1.0)
        moved = rule.begin(model, state, block.stats)
    else:
        moved = rule.blend(model, state, block.stats, blended)
    if moved.memory is None:
        return moved
    kept = {f"s{i}": rebased(model, part, state.params, moved.params) for i, part in enumerate(after)}
    endless = Stats(filtered=block.endings.filtered, past=Stats(**kept))
    return replace(moved, memory=moved.memory.replace(endless=endless))


def _mean(parts: Sequence[Stats], shares: Array) -> Stats:
    total = parts[0] * float(shares[0])
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total = total + part * float(share)
    return total
