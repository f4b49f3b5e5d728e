"""Regression of successes among trials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln

from streamem.core.errors import ParameterError
from streamem.families.regression.generalized import GeneralizedRegression
from streamem.families.regression.response import require_response

Array = NDArray[Any]


class BinomialRegression(GeneralizedRegression):
    """Successes y among m trials of probability 1 / (1 + exp(−intercept_k − x·coef_k)): logistic regression.

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)
    trials : int >= 1
        m, the same for all rows; with 1, responses are 0 or 1.

    Notes
    -----
    Parameters and M-step are those of `PoissonRegression`. Where covariates separate successes from failures, the
    likelihood has no maximum: coefficients grow from pass to pass until it gains less than `tol`.

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

    def __init__(self, response: int | str = -1, trials: int = 1) -> None:
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 1:
            raise ParameterError(f"trials is {trials!r}; it must be an integer >= 1")
        self.response = require_response(response)
        self.trials = int(trials)

    @property
    def needed(self) -> str:  # type: ignore[override]
        """What a response can be."""
        return (
            f"the response of a binomial regression with trials={self.trials} is a whole number from 0 to {self.trials}"
        )

    def can_be(self, response: Array) -> Array:
        """Whole numbers from 0 to m."""
        whole = (response >= 0) & (response <= self.trials) & (response == np.floor(response))
        return np.isnan(response) | whole

    def predictors(self) -> int:
        """One."""
        return 1

    def log_likelihood(self, eta: Array, response: Array) -> Array:
        """y·η − m·log(1 + exp(η)) + log of m over y (n, K)."""
        own, m = eta[:, :, 0], self.trials
        ways = gammaln(m + 1.0) - gammaln(response + 1.0) - gammaln(m - response + 1.0)
        return np.asarray(response[:, None] * own - m * np.logaddexp(0.0, own) + ways[:, None])

    def residual(self, eta: Array, response: Array) -> Array:
        """y − m·p (n, 1)."""
        return response[:, None] - self.trials * expit(eta)

    def curvature(self, eta: Array) -> Array:
        """m·p·(1 − p) (n, 1, 1)."""
        return np.asarray(self.trials * (expit(eta) * expit(-eta))[:, :, None])

    def mean(self, eta: Array) -> Array:
        """m·p (n, K)."""
        return np.asarray(self.trials * expit(eta[:, :, 0]))

    def first_predictors(self, response: Array, weight: Array) -> Array:
        """The log-odds of all rows, with half a success and half a failure more."""
        successes, total = weight @ response, self.trials * weight.sum()
        return np.log([(successes + 0.5) / (total - successes + 0.5)])
