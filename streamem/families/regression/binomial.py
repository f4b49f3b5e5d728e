"""Regression of successes among trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln

from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.families.regression.deviance import FEW, deviance, log_peak
from streamem.families.regression.generalized import NOTHING_BESIDE, Beside, GeneralizedRegression
from streamem.families.regression.response import require_column, require_response

Array = NDArray[Any]


class BinomialRegression(GeneralizedRegression):
    """Successes y among m trials of probability 1 / (1 + exp(−o − intercept_k − x·coef_k)): logistic regression.

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)
    trials : int >= 1, or a column
        m, the same for all rows (with 1, responses are 0 or 1), or the column that holds those of each row: its name,
        or its index from the end, such as −1.
    offset : index or name of a column o, optional, which is added to the predictor

    Notes
    -----
    Parameters and M-step are those of `PoissonRegression`. Where covariates separate successes from failures, the
    likelihood has no maximum: coefficients grow from pass to pass until it gains less than `tol`, and a
    `NoMaximumWarning` says so.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import BinomialRegression
    >>> x, y = [0.0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1, 1, 1]
    >>> family = BinomialRegression()
    >>> fit = Mixture(family, 1, tol=1e-12).fit(np.column_stack([x, y]))
    >>> family.coef(fit.params_).round(3).tolist(), family.intercept(fit.params_).round(3).tolist()
    ([[2.197]], [-1.099])
    """

    def __init__(self, response: int | str = -1, trials: int | str = 1, offset: int | str | None = None) -> None:
        is_number = isinstance(trials, int | np.integer) and not isinstance(trials, bool)
        if not isinstance(trials, str) and (not is_number or trials == 0):
            raise ParameterError(
                f"trials is {trials!r}; it must be an integer >= 1, or the column that holds those of each row: its "
                "name, or its index from the end, such as -1"
            )
        self.response = require_response(response)
        self.trials = trials if isinstance(trials, str) else int(trials)
        self.offset = None if offset is None else require_column("offset", offset)

    @property
    def needed(self) -> str:  # type: ignore[override]
        """What a response can be."""
        most = self.trials if self._all_alike else "the trials of its row"
        return f"the response of a binomial regression with trials={self.trials} is a whole number from 0 to {most}"

    @property
    def _all_alike(self) -> bool:
        """Whether all rows have as many trials."""
        return not isinstance(self.trials, str) and self.trials > 0

    def beside(self) -> Mapping[str, int | str]:
        """Columns of trials and offset, where there are such."""
        told: dict[str, int | str] = {} if self._all_alike else {"trials": self.trials}
        return told if self.offset is None else {**told, "offset": self.offset}

    def beside_of(self, x: Array) -> Beside:
        """Trials and offsets.

        Raises
        ------
        ImpossibleValueError : trials that are no whole number >= 1
        """
        told = self.told(x)
        trials = told.get("trials", np.full(1, float(self.trials) if self._all_alike else 1.0))
        if (wrong := (trials < 1) | (trials != np.floor(trials)) & ~np.isnan(trials)).any():
            at, row = self._places(x.shape[1])["trials"], int(np.argmax(wrong))
            raise ImpossibleValueError(float(trials[row]), at, "trials of a row are a whole number >= 1")
        return Beside(told.get("offset", NOTHING_BESIDE.offset), trials)

    def can_be(self, response: Array) -> Array:
        """Whole numbers from 0 to m, or any where rows tell their own."""
        most = float(self.trials) if self._all_alike else np.inf
        return np.isnan(response) | _counts_to(response, most)

    def possible(self, response: Array, beside: Mapping[str, Array]) -> Array:
        """Whole numbers from 0 to the trials of their rows."""
        if "trials" not in beside:
            return self.can_be(response)
        return np.isnan(response) | _counts_to(response, beside["trials"])

    def predictors(self) -> int:
        """One."""
        return 1

    def log_likelihood(self, eta: Array, response: Array, beside: Beside) -> Array:
        """y·η − m·log(1 + exp(η)) + log of m over y (n, K); of many trials without its terms of size m (`deviance`)."""
        own, m = eta[:, :, 0], np.broadcast_to(beside.trials, response.shape)
        if not (m > FEW).any():
            ways = gammaln(m + 1.0) - gammaln(response + 1.0) - gammaln(m - response + 1.0)
            return np.asarray(response[:, None] * own - m[:, None] * np.logaddexp(0.0, own) + ways[:, None])
        hits, misses = _part(response, m, -np.logaddexp(0.0, -own)), _part(m - response, m, -np.logaddexp(0.0, own))
        return np.asarray(hits + misses - log_peak(m)[:, None])

    def residual(self, eta: Array, response: Array, beside: Beside) -> Array:
        """y − m·p (n, 1)."""
        return np.asarray(response[:, None] - beside.trials[:, None] * expit(eta))

    def curvature(self, eta: Array, beside: Beside) -> Array:
        """m·p·(1 − p) (n, 1, 1)."""
        return np.asarray((beside.trials[:, None] * (expit(eta) * expit(-eta)))[:, :, None])

    def mean(self, eta: Array, beside: Beside) -> Array:
        """m·p (n, K)."""
        return np.asarray(beside.trials[:, None] * expit(eta[:, :, 0]))

    def draws(self, mean: Array, beside: Beside, rng: np.random.RandomState) -> Array:
        """Successes (n,)."""
        trials = np.broadcast_to(beside.trials, mean.shape)
        return rng.binomial(trials.astype(np.int64), np.clip(mean / trials, 0.0, 1.0)).astype(np.float64)

    def first_predictors(self, response: Array, weight: Array, beside: Beside) -> Array:
        """The log-odds of all rows, with half a success and half a failure more."""
        successes, total = weight @ response, weight @ np.broadcast_to(beside.trials, response.shape)
        return np.log([(successes + 0.5) / (total - successes + 0.5)])


def _part(count: Array, trials: Array, log_chance: Array) -> Array:
    """y·log(m·p/y) + y − m·p + y·log y − y − log y! (n, K) of y (n,) of m trials (n,) with chances p (n, K)."""
    known = np.maximum(count, 1.0)
    far = deviance(known[:, None], np.log(known / trials)[:, None] - log_chance)
    none = -trials[:, None] * np.exp(log_chance)
    return np.asarray(np.where((count == 0)[:, None], none, log_peak(known)[:, None] - far))


def _counts_to(response: Array, most: Any) -> Array:
    return np.asarray((response >= 0) & (response <= most) & (response == np.floor(response)))
