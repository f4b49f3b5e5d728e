"""Regressions: how one column of a row, the response, depends on the others; one distribution a file."""

from streamem.families.regression.binomial import BinomialRegression
from streamem.families.regression.gaussian import GaussianRegression
from streamem.families.regression.multinomial import MultinomialRegression
from streamem.families.regression.naming import Regression
from streamem.families.regression.poisson import PoissonRegression

__all__ = ["BinomialRegression", "GaussianRegression", "MultinomialRegression", "PoissonRegression", "Regression"]
