"""Online EM along one sequence that never ends: statistics that know where the chain stands (Cappé 2011).

What the steps so far tell is kept once for every state in which the last step may be, ρ(k) = E[Ŝ | z_T = k, x_1 … x_T].
A block of further steps mixes these by where its first step may have come from, and adds its own statistics, smoothed
within the block for every state at its end. As long as the parameters stay, Σ_k P(z_T = k)·ρ(k) is exactly what a pass
over the whole sequence would give; Cappé's recursion (2011, J. Comput. Graph. Stat. 20, §2.3) is a block of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.algorithms import StepwiseEM, rebased
from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.ports import Model
from streamem.core.state import State
from streamem.core.stats import Stats

Array = NDArray[Any]
NEVER = -650.0
"""Logarithm of a probability that is none: a state that the last step cannot be in keeps no statistics of its own."""


@dataclass(frozen=True, eq=False)
class Block:
    """What a block of steps contributes under fixed parameters.

    Attributes
    ----------
    stats : expected statistics of the block, with its log-likelihood given all that came before
    filtered : (K,) log-probabilities of the state at its last step
    came : (K, K) probability of the state before the block (rows), given that at its last step (columns)
    ending : the statistics given each state at the last step; None where that is impossible
    """

    stats: Stats
    filtered: Array
    came: Array
    ending: tuple[Stats | None, ...]

    def blended(self, past: Sequence[Stats], gamma: float) -> tuple[Stats, list[Stats]]:
        """(1 − γ) of what was known and γ of the block, per unit of weight: of all, and given each last state."""
        weight = float(self.stats.weight)
        known = []
        for k, own in enumerate(self.ending):
            mixed = _mean(past, self.came[:, k])
            known.append(mixed if own is None or gamma == 0 else mixed * (1.0 - gamma) + own * (gamma / weight))
        return _mean(known, np.exp(self.filtered)), known


def read_block(model: Model, params: Params, chunk: Chunk, before: Array | None) -> Block:
    """Ask the model of a chunk that is one sequence, or the next steps of one.

    Parameters
    ----------
    before : (K,) log-probabilities of the state at the step before, or None where the sequence begins

    Notes
    -----
    One E-step for each state, and one more.
    """
    entry = Boundary(before=before)
    stats = model.e_step(params, chunk, entry)
    filtered = _normalized(model.forward_of(params, chunk, POSTERIOR, entry))
    k = len(filtered)
    came = np.full((k, k), 1 / k)
    if before is not None:
        whole = model.operator_of(params, chunk, POSTERIOR)
        assert whole is not None
        joint = before[:, None] + whole
        with np.errstate(invalid="ignore"):
            came = np.nan_to_num(np.exp(joint - np.logaddexp.reduce(joint, axis=0)), nan=1 / k)
    ending = tuple(
        model.e_step(params, chunk, Boundary(before, _certain(state, k))) if filtered[state] > NEVER else None
        for state in range(k)
    )
    return Block(stats, filtered, came, ending)


def go_on(rule: StepwiseEM, model: Any, state: State, chunk: Chunk) -> State:
    """The state after a step with a chunk that goes on where the one before ended, or begins the sequence.

    `State.memory` holds ``endless``: filtered, and past (s0, s1, … for each state of the chain).
    """
    known = state.memory.endless if state.memory is not None and "endless" in state.memory else None
    block = read_block(model, state.params, chunk, None if known is None else known.filtered)
    running = block.stats * 0.0 if state.memory is None else state.memory.running
    k = len(block.filtered)
    past = [running] * k if known is None else [known.past[f"s{i}"] for i in range(k)]
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
    endless = Stats(filtered=block.filtered, past=Stats(**kept))
    return replace(moved, memory=moved.memory.replace(endless=endless))


def _certain(state: int, k: int) -> Array:
    log_prob = np.full(k, -np.inf)
    log_prob[state] = 0.0
    return log_prob


def _normalized(log_values: Array) -> Array:
    return np.asarray(log_values - np.logaddexp.reduce(log_values))


def _mean(parts: Sequence[Stats], shares: Array) -> Stats:
    total = parts[0] * float(shares[0])
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total = total + part * float(share)
    return total
