"""What EM maximizes, where that is more than a log-likelihood."""

from __future__ import annotations

from streamem.core.ports import Model
from streamem.core.state import State


def objective(model: Model, state: State) -> float | None:
    """Log-likelihood less what the M-step subtracts (priors, `reg_covar`), in nats per unit of weight.

    Of the parameters of the state; None where no statistics at these parameters are at hand.
    """
    if state.log_likelihood is None or state.memory is None or "running" not in state.memory:
        return None
    seen = float(state.memory.seen)
    return state.log_likelihood - model.penalty(state.params, state.memory.running * seen) / seen
