"""Counts of a row over all columns: bags of words, compositions of samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.faults import flags, missing, shares
from streamem.core.free_form import FreeForm, plain_form
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.linear_family import Coefficients, LinearFamily, first_means
from streamem.kernels.features.features import as_rows

Array = NDArray[Any]


class Multinomial(LinearFamily):
    """A row holds the counts of d outcomes of some trials: log p(x) = log n! − Σ_j log x_j! + x_j log p_j, n = Σ_j x_j.

    SciPy's `multinomial` with ``p``; the number n of trials is each row's own, and given.

    Parameters
    ----------
    trials : int or None
        How many trials `sample` draws a row; not needed for anything else.

    Notes
    -----
    Parameters: probabilities p (K, d). The M-step takes shares of all counts; none is below 2⁻⁴⁰, the maximizer under
    that bound, so that no outcome becomes impossible. Probabilities of exactly 0 can be given, and stay. A component
    without rows, or whose rows hold no counts, keeps its probabilities. Counts that were not observed are no part of
    the trials of a row, so there is no form for missing values.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Multinomial
    >>> Multinomial().log_prob(Params(probabilities=[[0.5, 0.25, 0.25]]), np.array([[2.0, 1.0, 0.0]])).round(4)
    array([[-1.674]])
    """

    name = "probabilities"

    def __init__(self, trials: int | None = None) -> None:
        if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 1):
            raise ParameterError(f"trials is {trials!r}; it must be an integer >= 1, or None")
        self.trials = trials

    def integrating(self) -> Self:
        """Refuse: the number of trials is not known where a count is missing.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError(
            "Multinomial knows no missing values, because a row without some count has no number of trials: leave "
            'missing="error" and drop such rows, or model the columns as Poisson'
        )

    def counted(self, n_features: int) -> Array:
        """Refuse: probabilities are those of rows with a given number of trials.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError(
            "Multinomial has no noise beside it: its probabilities are those of rows of a given total, and noise over "
            "the box of the data is of all totals together. Fit without noise, or model the columns as Poisson"
        )

    def measure(self, x: Array) -> Array:
        """log n! − Σ_j log x_j! (n,).

        Raises
        ------
        ImpossibleValueError : a negative or fractional value
        """
        out = np.empty(len(x))
        bad = kernels.log_factorials(as_rows(x), kernels.LOG_FACTORIALS, out)
        if bad >= 0:
            raise ImpossibleValueError(
                float(x.flat[bad]),
                bad % x.shape[1],
                "multinomial counts are integers >= 0: pass counts of outcomes, not shares of them",
            )
        return np.asarray(out + gammaln(x.sum(axis=1, dtype=np.float64) + 1.0))

    def coefficients(self, params: Params) -> Coefficients:
        """log p."""
        p = np.asarray(params.probabilities)
        zero = p == 0
        slopes, nothing = np.log(np.where(zero, 1.0, p)), np.zeros_like(p)
        return Coefficients(nothing, slopes, 64.0 + np.abs(slopes).max(axis=1), nothing, zero.astype(np.float64))

    def mean(self, params: Params) -> Array:
        """p (K, d), of one trial."""
        return np.asarray(params.probabilities)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Shares of the counts."""
        known = self.means(stats)
        counts = np.where(known.absent, 0.0, known.means)
        if previous is None:
            overall = (stats.x.sum(axis=0) + 0.5)[None]
            overall = np.maximum(overall / overall.sum(), FLOOR)
            own = _shares(counts, np.repeat(overall, len(counts), axis=0))
            return Params(probabilities=first_means(own, overall), empty=known.empty)
        before = np.asarray(previous.probabilities)
        found = _floored(_shares(np.where(before == 0, 0.0, counts), before), before > 0)
        return Params(probabilities=np.where(known.empty[:, None], before, found), empty=known.empty)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Probabilities, which sum to 1."""
        return replace(plain_form(params, n_components), simplex={self.name: np.array([0, params[self.name].shape[1]])})

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Probabilities that are none."""
        if found := missing(params, ("probabilities", "empty")):
            return found
        shape = (n_components, n_features)
        return shares("probabilities", params.probabilities, shape) + flags("empty", params.empty, shape[:1])

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Counts (count, d) of `trials` trials.

        Raises
        ------
        ParameterError : `trials` is None
        """
        if self.trials is None:
            raise ParameterError(
                "Multinomial cannot draw rows without a number of trials: pass Multinomial(trials=...), how many a row"
            )
        p = np.asarray(params.probabilities[component])
        return rng.multinomial(self.trials, p / p.sum(), size=count).astype(np.float64)

    @property
    def can_draw(self) -> bool:
        """Whether the number of trials is given."""
        return self.trials is not None

    def free_parameters(self, params: Params) -> int:
        """Probabilities sum to 1."""
        k, d = np.shape(params.probabilities)
        return k * (d - 1)


def _shares(counts: Array, otherwise: Array) -> Array:
    """Rows divided by their sums; others where a row holds nothing."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), otherwise)


def _floored(p: Array, allowed: Array) -> Array:
    """Shares of at least FLOOR where they may be above 0; raising these and scaling the rest is the maximizer."""
    low = allowed & ~(p >= FLOOR)
    if not low.any():
        return p
    rest = np.where(low, 0.0, p)
    free = 1.0 - FLOOR * low.sum(axis=1, keepdims=True)
    return np.where(low, FLOOR, rest * free / np.maximum(rest.sum(axis=1, keepdims=True), FLOOR))
