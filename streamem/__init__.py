"""streamem: expectation-maximization for data of any size.

Names are imported on first use, so that ``import streamem`` itself stays light.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streamem.core.lazy_names import lazy_names
from streamem.core.redaction import RedactingFilter

if TYPE_CHECKING:
    from streamem.core.addresses import Address
    from streamem.core.arrays import Params
    from streamem.core.errors import StreamemError
    from streamem.core.stats import Stats
    from streamem.estimators import (
        EM,
        GMMHMM,
        HMM,
        PPCA,
        BernoulliHMM,
        BernoulliMixture,
        CategoricalHMM,
        DawidSkene,
        FactorAnalysis,
        GammaMixture,
        GaussianHMM,
        GaussianMixture,
        GroupedMixture,
        ItemResponse,
        LatentClass,
        LinearGaussianChain,
        Mixture,
        MixtureOfFactorAnalyzers,
        MixtureProportions,
        MultinomialMixture,
        NegativeBinomialMixture,
        PoissonHMM,
        PoissonMixture,
        RecordLinkage,
        SharedStats,
        StudentTMixture,
        VonMisesFisherMixture,
    )
    from streamem.estimators.selecting import select
    from streamem.estimators.selection import Selection
    from streamem.families import (
        AutoregressiveGaussian,
        Bernoulli,
        Beta,
        Categorical,
        Exponential,
        ExponentialFamily,
        FactorGaussian,
        Fixed,
        Gamma,
        GammaPrior,
        Gaussian,
        Geometric,
        LogNormal,
        MixtureFamily,
        Multinomial,
        NegativeBinomial,
        NormalWishart,
        Poisson,
        Product,
        StudentT,
        Tied,
        VonMises,
        VonMisesFisher,
        Weibull,
    )
    from streamem.sources import ReadOptions, open_sequences, open_source

__version__ = "0.1.0"
__all__ = [
    "EM",
    "GMMHMM",
    "HMM",
    "PPCA",
    "Address",
    "AutoregressiveGaussian",
    "Bernoulli",
    "BernoulliHMM",
    "BernoulliMixture",
    "Beta",
    "Categorical",
    "CategoricalHMM",
    "DawidSkene",
    "Exponential",
    "ExponentialFamily",
    "FactorAnalysis",
    "FactorGaussian",
    "Fixed",
    "Gamma",
    "GammaMixture",
    "GammaPrior",
    "Gaussian",
    "GaussianHMM",
    "GaussianMixture",
    "Geometric",
    "GroupedMixture",
    "ItemResponse",
    "LatentClass",
    "LinearGaussianChain",
    "LogNormal",
    "Mixture",
    "MixtureFamily",
    "MixtureOfFactorAnalyzers",
    "MixtureProportions",
    "Multinomial",
    "MultinomialMixture",
    "NegativeBinomial",
    "NegativeBinomialMixture",
    "NormalWishart",
    "Params",
    "Poisson",
    "PoissonHMM",
    "PoissonMixture",
    "Product",
    "ReadOptions",
    "RecordLinkage",
    "Selection",
    "SharedStats",
    "Stats",
    "StreamemError",
    "StudentT",
    "StudentTMixture",
    "Tied",
    "VonMises",
    "VonMisesFisher",
    "VonMisesFisherMixture",
    "Weibull",
    "open_sequences",
    "open_source",
    "select",
]

_HOMES = {
    "FactorAnalysis": "streamem.estimators",
    "PPCA": "streamem.estimators",
    "MixtureOfFactorAnalyzers": "streamem.estimators",
    "FactorGaussian": "streamem.families",
    "EM": "streamem.estimators",
    "PoissonMixture": "streamem.estimators",
    "BernoulliMixture": "streamem.estimators",
    "GammaMixture": "streamem.estimators",
    "NegativeBinomialMixture": "streamem.estimators",
    "MultinomialMixture": "streamem.estimators",
    "VonMisesFisherMixture": "streamem.estimators",
    "Beta": "streamem.families",
    "Exponential": "streamem.families",
    "ExponentialFamily": "streamem.families",
    "Gamma": "streamem.families",
    "Geometric": "streamem.families",
    "LogNormal": "streamem.families",
    "Multinomial": "streamem.families",
    "NegativeBinomial": "streamem.families",
    "VonMises": "streamem.families",
    "VonMisesFisher": "streamem.families",
    "Weibull": "streamem.families",
    "BernoulliHMM": "streamem.estimators",
    "CategoricalHMM": "streamem.estimators",
    "DawidSkene": "streamem.estimators",
    "GMMHMM": "streamem.estimators",
    "GaussianHMM": "streamem.estimators",
    "HMM": "streamem.estimators",
    "PoissonHMM": "streamem.estimators",
    "Address": "streamem.core.addresses",
    "AutoregressiveGaussian": "streamem.families",
    "Bernoulli": "streamem.families",
    "Categorical": "streamem.families",
    "Gaussian": "streamem.families",
    "GaussianMixture": "streamem.estimators",
    "GroupedMixture": "streamem.estimators",
    "ItemResponse": "streamem.estimators",
    "LatentClass": "streamem.estimators",
    "LinearGaussianChain": "streamem.estimators",
    "MixtureProportions": "streamem.estimators",
    "RecordLinkage": "streamem.estimators",
    "Fixed": "streamem.families",
    "Tied": "streamem.families",
    "GammaPrior": "streamem.families",
    "NormalWishart": "streamem.families",
    "Selection": "streamem.estimators.selection",
    "select": "streamem.estimators.selecting",
    "Mixture": "streamem.estimators",
    "SharedStats": "streamem.estimators",
    "MixtureFamily": "streamem.families",
    "StudentT": "streamem.families",
    "StudentTMixture": "streamem.estimators",
    "Params": "streamem.core.arrays",
    "Poisson": "streamem.families",
    "Product": "streamem.families",
    "ReadOptions": "streamem.sources",
    "Stats": "streamem.core.stats",
    "StreamemError": "streamem.core.errors",
    "open_sequences": "streamem.sources",
    "open_source": "streamem.sources",
}

logging.getLogger("streamem").addHandler(logging.NullHandler())
logging.getLogger("streamem").addFilter(RedactingFilter())

if not TYPE_CHECKING:  # else every name would be known to the type checker
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
