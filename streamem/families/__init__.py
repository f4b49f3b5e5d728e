"""What one component emits. One distribution a file."""

from streamem.families.autoregressive import AutoregressiveGaussian
from streamem.families.bernoulli import Bernoulli
from streamem.families.categorical import Categorical
from streamem.families.gaussian.distribution import Gaussian
from streamem.families.mixture_family import MixtureFamily
from streamem.families.poisson import Poisson
from streamem.families.product import Product

__all__ = ["AutoregressiveGaussian", "Bernoulli", "Categorical", "Gaussian", "MixtureFamily", "Poisson", "Product"]
