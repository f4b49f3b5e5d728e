"""Regression of a category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ImpossibleValueError, ParameterError
from streamem.families.regression.generalized import Beside, GeneralizedRegression
from streamem.families.regression.response import require_response, whole_rows

Array = NDArray[Any]


class MultinomialRegression(GeneralizedRegression):
    """A category y of C + 1, with log p(y = c) − log p(y = 0) = intercept_kc + x·coef_kc: multinomial logit.

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)
    n_classes : int >= 2, optional
        C + 1; responses are 0 … C. By default what all rows hold, which only a fit can find.

    Notes
    -----
    Category 0 is the baseline, as in statsmodels. Parameters and M-step are those of `PoissonRegression`, with an axis
    of the C other categories: `coef` (K, C, p), `intercept` (K, C).

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import MultinomialRegression
    >>> x, y = [0.0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 2, 0, 1, 1, 2]
    >>> family = MultinomialRegression(n_classes=3)
    >>> fit = Mixture(family, 1, tol=1e-12).fit(np.column_stack([x, y]))
    >>> family.coef(fit.params_).round(3).tolist()
    [[[1.386], [0.693]]]
    """

    single = False

    def __init__(self, response: int | str = -1, n_classes: int | None = None) -> None:
        whole = isinstance(n_classes, int | np.integer) and not isinstance(n_classes, bool)
        if n_classes is not None and not (whole and n_classes >= 2):
            raise ParameterError(f"n_classes is {n_classes!r}; it must be an integer >= 2, or None")
        self.response = require_response(response)
        self.n_classes = None if n_classes is None else int(n_classes)

    @property
    def needed(self) -> str:  # type: ignore[override]
        """What a response can be."""
        known = self._known
        last = "" if known is None else f" to {known - 1}"
        return f"the response of a multinomial regression is the code of a category, a whole number from 0{last}"

    @property
    def _known(self) -> int | None:
        if self.n_classes is not None or self._design is None:
            return self.n_classes
        return max(2, int(self._design.top) + 1)

    def can_be(self, response: Array) -> Array:
        """Whole numbers from 0 to C."""
        most = MOST_CLASSES if self._known is None else self._known
        return np.isnan(response) | ((response >= 0) & (response < most) & (response == np.floor(response)))

    def predictors(self) -> int:
        """C.

        Raises
        ------
        ParameterError : nobody has told, and no rows were seen
        """
        if self._known is None:
            raise ParameterError("n_classes is not known before all rows are seen: tell it (n_classes=)")
        return self._known - 1

    def survey(self, x: Array, weight: Array | None) -> Array:
        """How many numbers tell the covariates, these, and which categories rows hold."""
        own = super().survey(x, weight)
        covariates, response = self.parts(x if weight is None else x[weight > 0])
        return np.concatenate([[len(own)], own, np.unique(response[whole_rows(covariates, response)])])

    def surveyed(self, found: Sequence[Array]) -> Self:
        """The family that knows its categories and how far covariates reach.

        Raises
        ------
        DegenerateDataError : no row has category 0, or one below the largest; or covariates do not determine their
            coefficients
        """
        ends = [1 + int(one[0]) for one in found]
        other = super().surveyed([one[1:end] for one, end in zip(found, ends, strict=True)])
        design = other._design
        if design is not None and design.bottom > 0:
            raise DegenerateDataError(
                f"the smallest category is {design.bottom:.0f}, and 0 is the one that others are compared with: let "
                "codes begin at 0, or make them text (labels)"
            )
        held = np.unique(np.concatenate([one[end:] for one, end in zip(found, ends, strict=True)]))
        if self.n_classes is None and (absent := np.setdiff1d(np.arange(held.max(initial=0.0)), held)).size:
            raise DegenerateDataError(
                f"categories go up to {held[-1]:.0f}, and no row has {absent[0]:.0f}, so that its coefficients cannot "
                "be told: let codes be 0, 1, … without gaps, make them text (labels), or tell n_classes"
            )
        return other

    def assumed_predictors(self) -> int:
        """C; 1 where only a survey will tell."""
        return 1 if self._known is None else self.predictors()

    def predictors_in(self, params: Params) -> int:
        """C; that of a fit to rows that are not here any more, as of a model file, is what its parameters have."""
        if self._known is None and np.ndim(params.regression) == 3:
            return int(np.shape(params.regression)[1])
        return self.predictors()

    def _log_prob(self, params: Params, covariates: Array, response: Array, beside: Beside) -> Array:
        most = self.predictors_in(params)
        if (beyond := response > most).any():
            needed = f"the model knows categories 0 to {most}: leave such rows out, or fit with a larger n_classes"
            raise ImpossibleValueError(float(response[beyond][0]), self.column(covariates.shape[1] + 1), needed)
        return super()._log_prob(params, covariates, response, beside)

    def log_likelihood(self, eta: Array, response: Array, beside: Beside) -> Array:
        """η_y − log Σ_c exp(η_c), with η_0 = 0 (n, K)."""
        every = _with_baseline(eta)
        known = np.where(np.isnan(response), 0.0, response).astype(np.intp)
        own = np.take_along_axis(every, known[:, None, None], axis=2)[:, :, 0]
        found = own - np.logaddexp.reduce(every, axis=2)
        found[np.isnan(response)] = np.nan
        return np.asarray(found)

    def residual(self, eta: Array, response: Array, beside: Beside) -> Array:
        """1{y = c} − p_c (n, C)."""
        hit = response[:, None] == np.arange(1, 1 + eta.shape[1])
        return np.asarray(hit - _chances(eta))

    def curvature(self, eta: Array, beside: Beside) -> Array:
        """diag(p) − p·pᵀ (n, C, C)."""
        chances = _chances(eta)
        return np.asarray(chances[:, :, None] * (np.eye(eta.shape[1]) - chances[:, None, :]))

    def mean(self, eta: Array, beside: Beside) -> Array:
        """Probability of each category (n, K, C + 1)."""
        return np.asarray(softmax(_with_baseline(eta), axis=2))

    def draws(self, mean: Array, beside: Beside, rng: np.random.RandomState) -> Array:
        """Codes (n,) of categories."""
        below = np.cumsum(mean, axis=1)[:, :-1]
        return np.asarray((rng.random_sample((len(mean), 1)) >= below).sum(axis=1), dtype=np.float64)

    def first_predictors(self, response: Array, weight: Array, beside: Beside) -> Array:
        """Log-odds of each category against the first, with half a row more for each."""
        counts = np.bincount(response.astype(np.intp), weights=weight, minlength=self.predictors() + 1) + 0.5
        return np.asarray(np.log(counts[1:] / counts[0]))


MOST_CLASSES = 10_000
"""Of responses before they were counted."""


def _with_baseline(eta: Array) -> Array:
    """Predictors (…, C + 1) with that of category 0."""
    return np.concatenate([np.zeros((*eta.shape[:-1], 1)), eta], axis=-1)


def _chances(eta: Array) -> Array:
    """(n, C) probabilities of all categories but the first."""
    return np.asarray(softmax(_with_baseline(eta), axis=1)[:, 1:])
