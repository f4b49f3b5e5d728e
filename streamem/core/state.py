"""Where a run of EM stands: everything that a checkpoint must hold, whatever the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.faults import prefixed
from streamem.core.stats import Stats, stats_faults


@dataclass(frozen=True)
class State:
    """A run of EM between two windows.

    Log-likelihoods are in nats per unit of sample weight and belong to the parameters that *entered* their pass.

    Attributes
    ----------
    params : the current parameters
    iteration : M-steps done in this call of fit
    trace : log-likelihood before each M-step, over all calls (a warm start goes on with it)
    log_likelihood : of `params`, once a pass has seen them; None before
    allowance : by how much the next log-likelihood may fall, for the M-step's penalty (see `Penalized`) and because the
        last one was rounded: by other arithmetic than the next, perhaps
    closing : no more M-steps; one pass is left, to learn the exact log-likelihood
    converged : the stopping rule was met
    rows, weight : rows and sum of weights of the last pass
    memory : statistics that an algorithm goes on from
    """

    params: Params
    iteration: int = 0
    trace: tuple[float, ...] = ()
    log_likelihood: float | None = None
    allowance: float = 0.0
    closing: bool = False
    converged: bool = False
    rows: int = 0
    weight: float = 0.0
    memory: Stats | None = None

    def faults(self) -> list[str]:
        """What contradicts itself, besides the parameters: one sentence for each, naming it."""
        counts = {"iteration": self.iteration, "rows": self.rows, "weight": self.weight, "allowance": self.allowance}
        found = [f"{name} is {value}; a number >= 0 is needed" for name, value in counts.items() if not value >= 0]
        if self.log_likelihood is not None and not np.isfinite(self.log_likelihood):
            found.append(f"log_likelihood is {self.log_likelihood}, where a number is needed")
        if not np.isfinite(self.trace).all():
            found.append("trace holds values that are not finite")
        return found + ([] if self.memory is None else prefixed("memory", stats_faults(self.memory)))

    @property
    def finished(self) -> bool:
        """Whether the run is over: the log-likelihood of the final parameters has been computed."""
        return self.closing and self.log_likelihood is not None

    @property
    def last_known(self) -> float:
        """The log-likelihood of `params`, or else of the last ones that a pass has seen; NaN if none has."""
        if self.log_likelihood is not None:
            return self.log_likelihood
        return self.trace[-1] if self.trace else float("nan")

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything as named arrays, exactly."""
        known = self.log_likelihood is not None
        return {
            "iteration": np.array(self.iteration),
            "trace": np.array(self.trace, dtype=np.float64),
            "log_likelihood": np.array(self.log_likelihood if known else np.nan),
            "known": np.array(known),
            "allowance": np.array(self.allowance),
            "closing": np.array(self.closing),
            "converged": np.array(self.converged),
            "rows": np.array(self.rows),
            "weight": np.array(self.weight),
            **{f"params.{name}": value for name, value in self.params.flatten().items()},
            **({} if self.memory is None else {f"memory.{name}": v for name, v in self.memory.flatten().items()}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> State:
        """The inverse of `to_arrays`."""
        params, memory = _below("params.", arrays), _below("memory.", arrays)
        return cls(
            params=Params.unflatten(params),
            iteration=int(arrays["iteration"]),
            trace=tuple(arrays["trace"].tolist()),
            log_likelihood=float(arrays["log_likelihood"]) if bool(arrays["known"]) else None,
            allowance=float(arrays["allowance"]),
            closing=bool(arrays["closing"]),
            converged=bool(arrays["converged"]),
            rows=int(arrays["rows"]),
            weight=float(arrays["weight"]),
            memory=Stats.unflatten(memory) if memory else None,
        )


def _below(prefix: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
