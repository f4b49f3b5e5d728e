"""Regression of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.families.regression.generalized import GeneralizedRegression
from streamem.families.regression.response import require_response

Array = NDArray[Any]


class PoissonRegression(GeneralizedRegression):
    """Counts y ~ Poisson(exp(intercept_k + x·coef_k)) (Wang, Puterman, Cockburn & Le 1996).

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)

    Notes
    -----
    Parameters, in the frame of which covariate_center and covariate_scale (p,) tell the origin and the unit: regression
    (K, 1, 1 + p); reach (2, p), the smallest and largest covariates; empty (K,). In units of the data they are `coef`
    and `intercept`, and `with_parameters` sets them.

    The likelihood has no statistic of fixed size: each pass makes one Newton step, short enough to be sure to raise it
    (`newton.damped_step`), so that EM is a generalized one, as monotone as any. Averages of statistics (stepwise EM)
    mix those of several coefficients and are approximate.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import PoissonRegression
    >>> x = np.arange(6.0)
    >>> family = PoissonRegression()
    >>> fit = Mixture(family, 1, tol=1e-12).fit(np.column_stack([x, [1, 2, 4, 8, 16, 32]]))
    >>> family.coef(fit.params_).round(4).tolist(), abs(family.intercept(fit.params_).round(4)).tolist()
    ([[0.6931]], [0.0])
    """

    needed = "the response of a Poisson regression is a count, a whole number >= 0"

    def __init__(self, response: int | str = -1) -> None:
        self.response = require_response(response)

    def can_be(self, response: Array) -> Array:
        """Whole numbers >= 0."""
        return np.isnan(response) | ((response >= 0) & (response == np.floor(response)) & np.isfinite(response))

    def predictors(self) -> int:
        """One."""
        return 1

    def log_likelihood(self, eta: Array, response: Array) -> Array:
        """y·η − exp(η) − log y! (n, K)."""
        own = eta[:, :, 0]
        return np.asarray(response[:, None] * own - np.exp(own) - gammaln(response + 1.0)[:, None])

    def residual(self, eta: Array, response: Array) -> Array:
        """y − exp(η) (n, 1)."""
        return response[:, None] - np.exp(eta)

    def curvature(self, eta: Array) -> Array:
        """exp(η) (n, 1, 1)."""
        return np.exp(eta)[:, :, None]

    def mean(self, eta: Array) -> Array:
        """exp(η) (n, K)."""
        return np.exp(eta[:, :, 0])

    def first_predictors(self, response: Array, weight: Array) -> Array:
        """The logarithm of the mean, which holds half a count more."""
        return np.log([(weight @ response + 0.5) / (weight.sum() + 0.5)])
