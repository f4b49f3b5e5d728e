"""Loading a model file without knowing its class."""

from __future__ import annotations

import os
from typing import Any

from streamem.core.archive_reading import Archive, read_archive, read_newest
from streamem.core.errors import ModelFileError
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
from streamem.estimators.model_files import read_model
from streamem.estimators.persistence import KIND
from streamem.estimators.poisson_hmm import PoissonHMM
from streamem.estimators.ppca import PPCA
from streamem.estimators.record_linkage import RecordLinkage
from streamem.estimators.student_mixture import StudentTMixture

CLASSES: dict[str, Any] = {
    one.__name__: one
    for one in (
        GaussianMixture,
        StudentTMixture,
        GaussianHMM,
        GMMHMM,
        CategoricalHMM,
        PoissonHMM,
        BernoulliHMM,
        PoissonMixture,
        BernoulliMixture,
        GammaMixture,
        NegativeBinomialMixture,
        MultinomialMixture,
        VonMisesFisherMixture,
        LatentClass,
        MixtureProportions,
        RecordLinkage,
        DawidSkene,
        ItemResponse,
        LinearGaussianChain,
        FactorAnalysis,
        PPCA,
        MixtureOfFactorAnalyzers,
        MixtureOfRegressions,
    )
}
FAMILIAR: dict[str, Any] = {"Mixture": Mixture, "HMM": HMM, "GroupedMixture": GroupedMixture}
"""These are rebuilt only where their family is one of this library, not code of the user."""


def load_model(path: str | os.PathLike[str]) -> Any:
    """The model of a file that `save` wrote, with the class that the file names.

    Raises
    ------
    ModelFileError : not such a file, damaged, newer than this library, or of a class that needs its family to be loaded
    """
    return _class_of(path, read_archive(path, KIND)).load(path)


def load_newest(path: str | os.PathLike[str]) -> Any:
    """The model of the newest generation of a file that can be read, with the class that it names.

    Raises
    ------
    ModelFileError : no generation can be read, or the newest is not to be trusted, or its class needs its family
    """
    estimator, fitted = read_model(_class_of(path, read_newest(path, KIND)), path, {}, newest=True)
    estimator._show(fitted)
    return estimator


def _class_of(path: str | os.PathLike[str], archive: Archive) -> Any:
    name = archive.meta.get("class")
    if name in FAMILIAR and not _tells_its_family(archive):
        raise ModelFileError(
            f"{path} holds a {name} whose family is code of yours, or which was written before files told the families "
            f"of this library: load it in Python, {name}.load(path, family=...)"
        )
    if name in FAMILIAR:
        return FAMILIAR[name]
    if name == EM.__name__:
        raise ModelFileError(f"{path} holds an EM, whose model is code: load it with EM.load(path, model=...)")
    if name not in CLASSES:
        raise ModelFileError(f"{path} holds a {name}, which this version does not know; it knows {sorted(CLASSES)}")
    return CLASSES[name]


def _tells_its_family(archive: Archive) -> bool:
    return isinstance(archive.meta.get("parameters", {}).get("family"), str) or bool(archive.meta.get("families"))
