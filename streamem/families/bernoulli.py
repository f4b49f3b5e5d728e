"""Independent yes-no answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError
from streamem.core.extrapolation import MOST_FALL, kept_signs
from streamem.core.faults import flags, missing, within
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.independent_columns import column_weights
from streamem.families.linear_family import Coefficients, LinearFamily, first_means
from streamem.kernels.features.features import as_rows

Array = NDArray[Any]

NO_MEASURE = np.zeros(1)


class Bernoulli(LinearFamily):
    """d independent values of 0 or 1: log p(x) = Σ_j x_j log p_j + (1 − x_j) log(1 − p_j).

    Notes
    -----
    Parameters: probabilities of 1 (K, d). Exactly 0 or 1 can be given, and stays; an M-step makes none outside of
    2⁻⁴⁰ … 1 − 2⁻⁴⁰, the maximizer under that bound, so that no answer ever becomes impossible. A component without rows
    keeps its probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Bernoulli
    >>> Bernoulli().log_prob(Params(probabilities=[[0.5, 0.25]]), np.array([[1.0, 0.0]])).round(4)
    array([[-0.9808]])
    """

    name = "probabilities"

    def measure(self, x: Array) -> Array:
        """Zero for every row (there is no base measure), after a check of all values.

        Raises
        ------
        ImpossibleValueError : a value other than 0 and 1
        """
        bad = kernels.first_beyond(as_rows(x), np.full(x.shape[1], 2.0))
        if bad >= 0:
            raise ImpossibleValueError(
                float(x.flat[bad]),
                bad % x.shape[1],
                "Bernoulli values are 0 and 1: recode the column, or use Categorical or Poisson",
            )
        return NO_MEASURE

    def coefficients(self, params: Params) -> Coefficients:
        """log(1 − p) and the log-odds."""
        p = params.probabilities
        never, always = p == 0, p == 1
        inner = np.where(never | always, 0.5, p)
        yes, no = np.log(inner), np.log1p(-inner)
        yes[always] = no[never] = yes[never] = no[always] = 0.0
        # x·never where 0 is certain, (1 − x)·always where 1 is.
        barred = always.astype(np.float64)
        terms = np.abs(yes).sum(axis=1) + np.abs(no).sum(axis=1)
        return Coefficients(no, yes - no, terms, barred, never.astype(np.float64) - barred)

    def mean(self, params: Params) -> Array:
        """p (K, d)."""
        return np.asarray(params.probabilities)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Probabilities that are none."""
        shape = (n_components, n_features)
        return missing(params, ("probabilities", "empty")) or (
            within("probabilities", params.probabilities, shape, 0.0, 1.0) + flags("empty", params.empty, shape[:1])
        )

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Answers (count, d) that a component gives."""
        chances = np.asarray(params.probabilities[component])
        return (rng.uniform(size=(count, len(chances))) < chances).astype(np.float64)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Numbers of ones, and of zeros, that stay numbers."""
        kept, zeros = kept_signs(stats, valid), column_weights(valid, valid.x) - valid.x
        return kept.replace(x=np.minimum(kept.x, column_weights(kept, kept.x) - zeros / MOST_FALL))

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Weighted shares of 1."""
        known = self.means(stats)
        shares = known.means
        if previous is None:
            overall = np.clip(known.overall, FLOOR, 1 - FLOOR)  # of weights whose half rounds away, too
            shares = first_means(np.where(known.absent, overall, shares), overall)
        else:
            p = previous.probabilities
            shares = np.where((p == 0) | (p == 1), p, np.clip(shares, FLOOR, 1 - FLOOR))
            shares = np.where(known.absent, p, shares)
        return Params(probabilities=shares, empty=known.empty)
