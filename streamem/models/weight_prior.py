"""A Dirichlet prior of the weights of a mixture, as pseudo-counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.core.validation import numbers

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class WeightPrior:
    """w ~ Dirichlet(α): the M-step adds α − 1 rows (of a mixture of groups: groups) to each component.

    Attributes
    ----------
    concentration : α (K,), >= 1; 1 is no prior
    total_weight : Σ weights of the rows of all data, if statistics may stand for a share of them: the prior counts in
        proportion; None takes statistics for those of all data
    """

    concentration: Array
    total_weight: float | None = None

    @classmethod
    def of(cls, concentration: ArrayLike, n_components: int) -> WeightPrior:
        """The prior with this α, a number or one for each component.

        Raises
        ------
        ParameterError : another shape, or values below 1, for which a posterior has no maximum
        """
        name = "weight_concentration_prior"
        alpha = numbers(concentration, name)
        if alpha.shape not in ((), (n_components,)):
            raise ParameterError(f"{name} has shape {alpha.shape}; a number or ({n_components},) is needed")
        if not (np.isfinite(alpha).all() and (alpha >= 1).all()):
            raise ParameterError(
                f"{name} has values down to {alpha.min()}; they must be finite and >= 1: below, a posterior has no "
                "maximum. 1 is no prior, and each unit above counts as one observed row"
            )
        return cls(np.array(np.broadcast_to(alpha, n_components)))

    def weighed(self, total_weight: float | None) -> WeightPrior:
        """This prior, weighed against so much data."""
        return replace(self, total_weight=total_weight)

    def added(self, counts: Array, weight: float, previous: Array | None) -> Array:
        """Counts (K,) of rows of this weight with the pseudo-counts; weights that were 0 stay so."""
        with_prior = counts + self._share(weight) * (self.concentration - 1.0)
        return with_prior if previous is None else np.where(np.asarray(previous) > 0, with_prior, 0.0)

    def penalty(self, weights: Array, weight: float) -> float:
        """−Σ (α − 1) log w, in nats, or its share; of weights that are 0 and stay so nothing."""
        w = np.asarray(weights)
        return -self._share(weight) * float(np.sum((self.concentration - 1.0) * np.log(np.where(w > 0, w, 1.0))))

    def _share(self, weight: float) -> float:
        return 1.0 if self.total_weight is None else weight / self.total_weight
