"""How sure a fit is of its parameters: derivatives of the log-likelihood, from one pass over the data."""

from streamem.running.uncertainty.coordinates import Coordinates
from streamem.running.uncertainty.inference import METHODS, Inference, asked_of, inferred
from streamem.running.uncertainty.information import Information, information_of

__all__ = ["METHODS", "Coordinates", "Inference", "Information", "asked_of", "inferred", "information_of"]
