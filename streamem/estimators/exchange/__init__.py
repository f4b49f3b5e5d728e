"""Ways out and in: fitted models as objects of scikit-learn and hmmlearn, and those as models of this library."""
