"""What one mini-batch did to a model: the same numbers for callbacks, logs and the history on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamem.core.ports import Model
from streamem.core.state import State

VANISHING = 0.1
"""A component with less than this part of an equal share is counted as dead."""


@dataclass(frozen=True)
class Update:
    """One step of online EM.

    Attributes
    ----------
    batch : steps since the last `fit`, or since the beginning
    rows : learned in all
    log_likelihood : of the mini-batch under the parameters *before* the step, nats per row: how well it was predicted
    step_size : γ
    effective_sample_size : equally weighted rows of as much information
    drift : whether the alarm was raised
    born, died : components whose share rose above, or fell below, a tenth of 1/K
    """

    batch: int
    rows: int
    log_likelihood: float
    step_size: float
    effective_sample_size: float
    drift: bool = False
    born: tuple[int, ...] = ()
    died: tuple[int, ...] = ()


def describe_update(model: Model, before: State | None, after: State, drift: bool = False) -> Update:
    """What changed between two states."""
    memory = after.memory
    assert memory is not None
    born, died = ((), ()) if before is None else _events(model, before, after)
    return Update(
        batch=int(memory.batches),
        rows=after.rows,
        log_likelihood=after.trace[-1],
        step_size=float(memory.gamma),
        effective_sample_size=1.0 / float(memory.crowding),
        drift=drift,
        born=born,
        died=died,
    )


def _events(model: Model, before: State, after: State) -> tuple[tuple[int, ...], tuple[int, ...]]:
    was, now = (model.shares(state.params) for state in (before, after))
    if was is None or now is None or was is now:
        return (), ()
    least = VANISHING / len(now)
    born, died = np.flatnonzero((was < least) & (now >= least)), np.flatnonzero((was >= least) & (now < least))
    return tuple(born.tolist()), tuple(died.tolist())
