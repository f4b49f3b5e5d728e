"""Regression of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.core.errors import ImpossibleValueError
from streamem.families.regression.deviance import FEW, deviance, log_peak
from streamem.families.regression.generalized import NOTHING_BESIDE, Beside, GeneralizedRegression
from streamem.families.regression.response import require_column, require_response

Array = NDArray[Any]


class PoissonRegression(GeneralizedRegression):
    """Counts y ~ Poisson(e·exp(o + intercept_k + x·coef_k)), with e = 1, o = 0 unless columns tell (Wang et al. 1996).

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)
    offset, exposure : index or name of the columns o and e > 0, optional
        Known parts of a row's logarithm and of its mean, such as hours of watching, as of statsmodels' ``GLM``.

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

    def __init__(
        self, response: int | str = -1, offset: int | str | None = None, exposure: int | str | None = None
    ) -> None:
        self.response = require_response(response)
        self.offset = None if offset is None else require_column("offset", offset)
        self.exposure = None if exposure is None else require_column("exposure", exposure)

    def beside(self) -> Mapping[str, int | str]:
        """Columns of offset and exposure, where there are such."""
        told = {"offset": self.offset, "exposure": self.exposure}
        return {role: column for role, column in told.items() if column is not None}

    def beside_of(self, x: Array) -> Beside:
        """Offsets, to which the logarithms of exposures add.

        Raises
        ------
        ImpossibleValueError : an exposure that is not > 0
        """
        told = self.told(x)
        if not told:
            return NOTHING_BESIDE
        exposure = told.get("exposure", np.ones(1))
        if (wrong := exposure <= 0).any():
            at, row = self._places(x.shape[1])["exposure"], int(np.argmax(wrong))
            raise ImpossibleValueError(float(exposure[row]), at, "an exposure of counts is a number > 0")
        return Beside(told.get("offset", np.zeros(1)) + np.log(exposure), NOTHING_BESIDE.trials)

    def can_be(self, response: Array) -> Array:
        """Whole numbers >= 0."""
        return np.isnan(response) | ((response >= 0) & (response == np.floor(response)) & np.isfinite(response))

    def predictors(self) -> int:
        """One."""
        return 1

    def log_likelihood(self, eta: Array, response: Array, beside: Beside) -> Array:
        """y·η − exp(η) − log y! (n, K); of large counts without its terms of size y·log y (`deviance`)."""
        own = eta[:, :, 0]
        if not (response > FEW).any():
            return np.asarray(response[:, None] * own - np.exp(own) - gammaln(response + 1.0)[:, None])
        known = np.maximum(response, 1.0)  # of 0 it is −exp(η)
        far = deviance(known[:, None], np.log(known)[:, None] - own)
        return np.asarray(np.where((response == 0)[:, None], -np.exp(own), log_peak(known)[:, None] - far))

    def residual(self, eta: Array, response: Array, beside: Beside) -> Array:
        """y − exp(η) (n, 1)."""
        return response[:, None] - np.exp(eta)

    def curvature(self, eta: Array, beside: Beside) -> Array:
        """exp(η) (n, 1, 1)."""
        return np.exp(eta)[:, :, None]

    def mean(self, eta: Array, beside: Beside) -> Array:
        """exp(η) (n, K)."""
        return np.exp(eta[:, :, 0])

    def draws(self, mean: Array, beside: Beside, rng: np.random.RandomState) -> Array:
        """Counts (n,)."""
        return rng.poisson(mean).astype(np.float64)

    def first_predictors(self, response: Array, weight: Array, beside: Beside) -> Array:
        """The logarithm of the mean for an exposure of 1, with half a count more."""
        exposed = weight @ np.broadcast_to(np.exp(beside.offset), response.shape)
        return np.log([(weight @ response + 0.5) / (exposed + 0.5)])
