"""The line with which a command that fits ends."""

from __future__ import annotations

from typing import Any

from streamem.core.counting import counted


def how_it_ended(model: Any, algorithm: str | None, unit: str = "row") -> str:
    """Whether a fit converged, after how many iterations, and at which log-likelihood per row or other `unit`."""
    state = "converged" if model.converged_ else "ended" if algorithm == "stepwise" else "not converged"
    iterations = counted(model.n_iter_, "iteration")
    return f"{state} after {iterations}, log-likelihood {model.lower_bound_:.9g} per {unit}"
