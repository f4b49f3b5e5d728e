"""What one component emits. One distribution a file."""

from streamem.families.bernoulli import Bernoulli
from streamem.families.categorical import Categorical
from streamem.families.gaussian import Gaussian
from streamem.families.poisson import Poisson

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Poisson"]
