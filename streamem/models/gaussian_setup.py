"""What is fixed about a linear Gaussian chain, the shapes of its arrays, and what contradicts itself in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.models.gaussian_messages import symmetric

Array = NDArray[Any]

LETTERS = {
    "transition_matrix": "a",
    "transition_covariance": "q",
    "observation_matrix": "c",
    "observation_covariance": "r",
    "observation_offset": "d",
    "initial_mean": "m",
    "initial_covariance": "v",
}
"""What a chain consists of, and the letter of each for ``params``."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What is fixed about a chain.

    Attributes
    ----------
    n_latent : k
    given : arrays to start from, by the names of `LETTERS`, or to keep
    updates : names of those that the M-step updates
    diffuse : whether nothing is known of the first state: its density is 1 everywhere
    state_noise, observation_noise : "full" or "diag"
    """

    n_latent: int
    given: Mapping[str, Array] = field(default_factory=dict)
    updates: frozenset[str] = frozenset(LETTERS)
    diffuse: bool = False
    state_noise: str = "full"
    observation_noise: str = "diag"


def shapes_of(k: int, d: int, noise: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a chain; `noise` is that of the covariance of observations."""
    return {
        "transition_matrix": (k, k),
        "transition_covariance": (k, k),
        "observation_matrix": (d, k),
        "observation_covariance": noise,
        "observation_offset": (d,),
        "initial_mean": (k,),
        "initial_covariance": (k, k),
    }


def chain_faults(arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One sentence for each array, of those that are there, that cannot be what its name says."""
    found = []
    for name, shape in shapes.items():
        if name not in arrays:
            found.append(f"{name} is missing")
            continue
        value = np.asarray(arrays[name])
        if value.shape != shape or value.dtype.kind not in "biuf" or not np.isfinite(value).all():
            found.append(f"{name} has shape {value.shape}; finite numbers {shape} are needed")
        elif name.endswith("covariance") and (fault := _covariance_fault(name, value)):
            found.append(fault)
    return found


def _covariance_fault(name: str, value: Array) -> str:
    observed = name == "observation_covariance"
    if value.ndim == 1:
        return "" if (value > 0).all() else f"{name} holds {value.min():g}; variances > 0 are needed"
    if not np.allclose(value, value.T, rtol=1e-9, atol=1e-12 * np.abs(value).max(initial=0.0)):
        return f"{name} is not symmetric"
    least = float(np.linalg.eigvalsh(symmetric(value))[0])
    if observed and not least > 0:
        return f"{name} has the eigenvalue {least:.3g}; a positive definite matrix is needed"
    if least < -1e-10 * float(np.abs(value).max(initial=0.0)):
        return f"{name} has the eigenvalue {least:.3g}; a covariance has none below 0"
    return ""
