"""How hidden variables tie components together. One latent structure a file; families come in as arguments."""

from streamem.models.dawid_skene import DawidSkene
from streamem.models.driven_hmm import DrivenHMM
from streamem.models.driven_semi_markov import DrivenSemiMarkov
from streamem.models.gaussian_chain import GaussianChain
from streamem.models.grouped_mixture import GroupedMixture
from streamem.models.hmm import HMM
from streamem.models.latent_trait import LatentTrait
from streamem.models.mixture import Mixture
from streamem.models.noise import MixtureWithNoise
from streamem.models.own_model import OwnModel
from streamem.models.proportions import Proportions
from streamem.models.semi_markov import SemiMarkov

__all__ = [
    "HMM",
    "DawidSkene",
    "DrivenHMM",
    "DrivenSemiMarkov",
    "GaussianChain",
    "GroupedMixture",
    "LatentTrait",
    "Mixture",
    "MixtureWithNoise",
    "OwnModel",
    "Proportions",
    "SemiMarkov",
]
