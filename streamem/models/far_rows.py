"""What a model says of rows whose densities are nil under every component, as float64 has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import NumericalError
from streamem.core.ports import FullFamily

Array = NDArray[Any]


class FarRows(NamedTuple):
    """Answers about such rows.

    Attributes
    ----------
    log_joint : (n, K) log w_k + log p_k(x), in nats; −∞ where it is below what float64 holds, NaN: not computable
    order : (n, K) numbers that order components as log_joint does, where that is −∞ for all
    """

    log_joint: Array
    order: Array

    @property
    def log_density(self) -> Array:
        """log p(x) (n,), in nats."""
        return np.asarray(np.logaddexp.reduce(self.log_joint, axis=1))

    @property
    def responsibilities(self) -> Array:
        """Posterior probabilities (n, K); in the limit the nearest component has all."""
        density = self.log_density[:, None]
        told = np.exp(self.log_joint - np.where(np.isfinite(density), density, 0.0))
        nearest = np.eye(self.order.shape[1])[self.order.argmax(axis=1)]
        return np.asarray(np.where(np.isfinite(density), told, nearest))

    @property
    def labels(self) -> Array:
        """The most probable component (n,)."""
        told = np.isfinite(self.log_density)
        return np.asarray(np.where(told, self.log_joint.argmax(axis=1), self.order.argmax(axis=1)))


def judged_far(family: FullFamily, params: Any, log_weights: Array, x: Array) -> FarRows | None:
    """Densities and order of components of rows x (n, d) that overflowed; None if the family cannot judge all rows.

    `log_weights` are (K,), or (n, K) where they differ from row to row.
    """
    log_prob, order = family.far_log_prob(params, x), family.far_order(params, x)
    if log_prob is None or order is None:
        return None
    log_joint, order = log_prob + log_weights, np.where(log_weights > -np.inf, order, -np.inf)
    return None if np.isnan(log_joint).any() or np.isnan(order).any() else FarRows(log_joint, order)


def remedy(overflows: str) -> str:
    """What to do about rows without a density, where values may be such that a family says `overflows` of them."""
    return f"rescale the data, or remove values {overflows}" if overflows else "remove values that nothing can emit"


def no_density(row: int, x: Array, overflows: str) -> NumericalError:
    """The error that a row x (d,) of a chunk has no finite log-density."""
    return NumericalError(
        f"row {row} of the chunk has no finite log-density under any component (its largest value is "
        f"{np.fmax.reduce(np.abs(x)):.3g}); {remedy(overflows)}"
    )
