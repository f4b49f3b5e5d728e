"""How sure a fit is of its parameters: derivatives of the log-likelihood, from one pass over the data."""

from streamem.running.uncertainty.coordinates import Coordinates
from streamem.running.uncertainty.inference import METHODS, Inference, asked_of, inferred
from streamem.running.uncertainty.information import Information, information_of
from streamem.running.uncertainty.own import names_of, own_inference

__all__ = [
    "METHODS",
    "Coordinates",
    "Inference",
    "Information",
    "asked_of",
    "inferred",
    "information_of",
    "names_of",
    "own_inference",
]
