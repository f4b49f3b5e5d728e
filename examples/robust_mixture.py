"""Groups among outliers: these pull the means of a Gaussian mixture, and hardly those of a mixture of t distributions.

Three kinds of cells are measured in two channels; one measurement in twenty is noise from anywhere. The degrees of
freedom say how heavy the tails of each group are, and log-densities tell the outliers.
"""

import numpy as np

from streamem import GaussianMixture, StudentTMixture

CENTRES = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])


def measurements(rng, n=20_000):
    """Rows (n, 2), and which of them are noise."""
    x = CENTRES[rng.integers(3, size=n)] + rng.normal(size=(n, 2))
    noise = rng.random(n) < 0.05
    x[noise] = rng.uniform(-15.0, 15.0, size=(noise.sum(), 2))
    return x, noise


def error(means):
    """How far the worst of the centres is from the nearest mean."""
    return np.linalg.norm(means[:, None] - CENTRES, axis=2).min(axis=0).max()


x, noise = measurements(np.random.default_rng(0))
gaussian = GaussianMixture(3, random_state=0).fit(x)
robust = StudentTMixture(3, random_state=0).fit(x)
print(f"Gaussian:  worst centre off by {error(gaussian.means_):.2f}")
print(f"Student-t: worst centre off by {error(robust.means_):.2f}, degrees of freedom {robust.dofs_.round(1)}")

least = np.quantile(robust.score_samples(x), 0.05)
found = robust.score_samples(x) < least
print(f"of the 5 % least likely rows {noise[found].mean():.0%} are noise")
assert error(robust.means_) < 0.1 < error(gaussian.means_)
assert noise[found].mean() > 0.8
