"""`Regression("gaussian")`: regressions by the name of their distribution."""

from __future__ import annotations

from typing import Any

from streamem.core.errors import ParameterError
from streamem.families.regression.binomial import BinomialRegression
from streamem.families.regression.gaussian import GaussianRegression
from streamem.families.regression.multinomial import MultinomialRegression
from streamem.families.regression.poisson import PoissonRegression
from streamem.families.regression.response import ResponseColumn

REGRESSIONS: dict[str, type[Any]] = {
    "gaussian": GaussianRegression,
    "poisson": PoissonRegression,
    "binomial": BinomialRegression,
    "multinomial": MultinomialRegression,
}


def Regression(distribution: str = "gaussian", response: int | str = -1, **settings: Any) -> ResponseColumn:
    """The family of a response given the other columns of its row: a generalized linear model for each component.

    Parameters
    ----------
    distribution : {"gaussian", "poisson", "binomial", "multinomial"}
        Of the response; its link is the canonical one: identity, logarithm, logit, multinomial logit.
    response : index or name of the column that is explained, by default the last; all others explain it
    settings : those of `GaussianRegression`, `PoissonRegression`, `BinomialRegression`, `MultinomialRegression`

    Returns
    -------
    ResponseColumn
        For `Mixture`, `HMM` and `GroupedMixture`; `MixtureOfRegressions` makes it itself.

    Raises
    ------
    ParameterError : another distribution, or settings that it does not have

    Examples
    --------
    >>> from streamem.families import Regression
    >>> Regression("poisson", response="visits")
    PoissonRegression(response='visits')
    """
    if distribution not in REGRESSIONS:
        raise ParameterError(f"distribution is {distribution!r}; it must be one of {list(REGRESSIONS)}")
    family = REGRESSIONS[distribution]
    try:
        made: ResponseColumn = family(response=response, **settings)
    except TypeError as error:
        raise ParameterError(f"{family.__name__}: {error}") from error
    return made
