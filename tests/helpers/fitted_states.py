"""The exact state behind the public attributes of an estimator."""

from __future__ import annotations

from typing import Any

from streamem.core.arrays import Params
from streamem.core.state import State


def state_of(model: Any) -> State:
    """What the last fit, step or file left."""
    fitted = getattr(model, "_fitted", None)
    state: State = model._state if fitted is None else fitted.state
    return state


def params_now(model: Any) -> Params:
    """Exact parameters: those of the last fit, unless attributes were set since."""
    params: Params = model._now().state.params if hasattr(model, "_now") else model._params()
    return params
