"""The scikit-learn face: the only place that picks concrete parts for the user."""

from streamem.estimators.bernoulli_hmm import BernoulliHMM
from streamem.estimators.categorical_hmm import CategoricalHMM
from streamem.estimators.dawid_skene import DawidSkene
from streamem.estimators.em import EM
from streamem.estimators.factor_analysis import FactorAnalysis
from streamem.estimators.factor_mixture import MixtureOfFactorAnalyzers
from streamem.estimators.family_mixtures import (
    BernoulliMixture,
    GammaMixture,
    MultinomialMixture,
    NegativeBinomialMixture,
    PoissonMixture,
    VonMisesFisherMixture,
)
from streamem.estimators.gaussian_chain import LinearGaussianChain
from streamem.estimators.gaussian_hmm import GaussianHMM
from streamem.estimators.gaussian_mixture import GaussianMixture
from streamem.estimators.gmm_hmm import GMMHMM
from streamem.estimators.grouped_mixture import GroupedMixture
from streamem.estimators.hmm import HMM
from streamem.estimators.item_response import ItemResponse
from streamem.estimators.latent_class import LatentClass
from streamem.estimators.mixture import Mixture
from streamem.estimators.mixture_of_regressions import MixtureOfRegressions
from streamem.estimators.mixture_proportions import MixtureProportions
from streamem.estimators.poisson_hmm import PoissonHMM
from streamem.estimators.ppca import PPCA
from streamem.estimators.record_linkage import RecordLinkage
from streamem.estimators.student_mixture import StudentTMixture
from streamem.running.federated import SharedStats

__all__ = [
    "EM",
    "GMMHMM",
    "HMM",
    "PPCA",
    "BernoulliHMM",
    "BernoulliMixture",
    "CategoricalHMM",
    "DawidSkene",
    "FactorAnalysis",
    "GammaMixture",
    "GaussianHMM",
    "GaussianMixture",
    "GroupedMixture",
    "ItemResponse",
    "LatentClass",
    "LinearGaussianChain",
    "Mixture",
    "MixtureOfFactorAnalyzers",
    "MixtureOfRegressions",
    "MixtureProportions",
    "MultinomialMixture",
    "NegativeBinomialMixture",
    "PoissonHMM",
    "PoissonMixture",
    "RecordLinkage",
    "SharedStats",
    "StudentTMixture",
    "VonMisesFisherMixture",
]
