"""The scikit-learn face: the only place that picks concrete parts for the user."""

from streamem.estimators.gaussian_mixture import GaussianMixture
from streamem.estimators.mixture import Mixture
from streamem.estimators.sharing import SharedStats

__all__ = ["GaussianMixture", "Mixture", "SharedStats"]
