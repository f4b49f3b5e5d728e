"""What one component emits. One distribution a file."""

from streamem.families.autoregressive import AutoregressiveGaussian
from streamem.families.bernoulli import Bernoulli
from streamem.families.beta import Beta
from streamem.families.categorical import Categorical
from streamem.families.exponential import Exponential
from streamem.families.exponential_family import ExponentialFamily
from streamem.families.factors.distribution import FactorGaussian
from streamem.families.fixed import Fixed
from streamem.families.gamma import Gamma
from streamem.families.gamma_prior import GammaPrior
from streamem.families.gaussian.distribution import Gaussian
from streamem.families.gaussian.normal_wishart import NormalWishart
from streamem.families.geometric import Geometric
from streamem.families.item_curves import ItemCurves
from streamem.families.log_normal import LogNormal
from streamem.families.mixture_family import MixtureFamily
from streamem.families.multinomial import Multinomial
from streamem.families.negative_binomial import NegativeBinomial
from streamem.families.partly_fixed_categorical import PartlyFixedCategorical
from streamem.families.poisson import Poisson
from streamem.families.product import Product
from streamem.families.rater_labels import RaterLabels
from streamem.families.regression import (
    BinomialRegression,
    GaussianRegression,
    MultinomialRegression,
    PoissonRegression,
    Regression,
)
from streamem.families.student.distribution import StudentT
from streamem.families.tied import Tied
from streamem.families.von_mises import VonMises
from streamem.families.von_mises_fisher import VonMisesFisher
from streamem.families.weibull import Weibull

__all__ = [
    "AutoregressiveGaussian",
    "Bernoulli",
    "Beta",
    "BinomialRegression",
    "Categorical",
    "Exponential",
    "ExponentialFamily",
    "FactorGaussian",
    "Fixed",
    "Gamma",
    "GammaPrior",
    "Gaussian",
    "GaussianRegression",
    "Geometric",
    "ItemCurves",
    "LogNormal",
    "MixtureFamily",
    "Multinomial",
    "MultinomialRegression",
    "NegativeBinomial",
    "NormalWishart",
    "PartlyFixedCategorical",
    "Poisson",
    "PoissonRegression",
    "Product",
    "RaterLabels",
    "Regression",
    "StudentT",
    "Tied",
    "VonMises",
    "VonMisesFisher",
    "Weibull",
]
