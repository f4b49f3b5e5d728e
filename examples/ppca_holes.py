"""Principal components of a table with holes: what was not measured is left out of the likelihood, not filled in first.

Forty sensors follow three signals. A third of the readings are missing, and some sensors are often silent. Filling in
column means first, as a plain PCA has to, draws the components towards the holes.
"""

import numpy as np

from streamem import PPCA

rng = np.random.default_rng(0)
signals = np.linalg.qr(rng.normal(size=(40, 3)))[0].T * [[9.0], [6.0], [4.0]]
readings = rng.normal(size=(3000, 3)) @ signals + rng.normal(size=(3000, 40))
silent = rng.random(readings.shape) < np.linspace(0.1, 0.6, 40)
holes = np.where(silent, np.nan, readings)


def overlap(components):
    """How much of the true signals lies in the span of components: 1 is all of it."""
    found = np.linalg.qr(components.T)[0]
    true = np.linalg.qr(signals.T)[0]
    return float(np.linalg.norm(found.T @ true) ** 2 / 3)


pca = PPCA(3, missing="integrate").fit(holes)
filled = PPCA(3).fit(np.where(silent, np.nanmean(holes, axis=0), holes))
print(
    f"span of the signals found: {overlap(pca.components_):.4f}; with means filled in {overlap(filled.components_):.4f}"
)
print(f"noise {pca.noise_variance_:.3f} (true: 1); with means filled in {filled.noise_variance_:.3f}")

restored = pca.impute(holes)
error = float(np.sqrt(np.mean((restored - readings)[silent] ** 2)))
print(f"a missing reading is restored to ±{error:.2f}, of which 1 is noise; signals vary by ±{readings.std():.2f}")
assert overlap(pca.components_) > 0.99
assert abs(pca.noise_variance_ - 1.0) < 0.02 < abs(filled.noise_variance_ - 1.0)
assert error < 1.2
