"""Three hospitals fit one mixture without sharing a row: each sends sums, one of them maximizes.

In real life each ``site`` runs on a machine of its own, and the files travel. The result is that of all rows together.
"""

import tempfile
from pathlib import Path

import numpy as np

from streamem import GaussianMixture, SharedStats

rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())
names = ["north", "south", "east"]


def records(n, shares):
    """Two measurements a patient; three conditions, of which every hospital sees another mix."""
    kind = rng.choice(3, size=n, p=shares)
    return np.array([[0.0, 0.0], [4.0, 1.0], [1.0, 5.0]])[kind] + rng.normal(size=(n, 2))


for name, n, shares in zip(names, (8000, 3000, 5000), ([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]), strict=True):
    np.save(folder / f"{name}.npy", records(n, shares))


def site(name):
    """What a hospital does each round: load the model, look at its own rows, send sums."""
    model = GaussianMixture.load(folder / "model.npz")
    model.expected_statistics(folder / f"{name}.npy").save(folder / f"{name}-statistics.npz")


# A start that everyone may see, made on a pilot study that is public.
model = GaussianMixture(3, max_iter=0, random_state=0).fit(records(100, [0.4, 0.3, 0.3]))
while not model.converged_:
    model.save(folder / "model.npz")
    for name in names:
        site(name)
    model.maximize(sum(SharedStats.load(folder / f"{name}-statistics.npz") for name in names))
    print(f"round {model.n_iter_}: log-likelihood per row {model.lower_bound_:.6f}")

together = np.concatenate([np.load(folder / f"{name}.npy") for name in names])
print(model.means_.round(2), model.weights_.round(3))
assert np.allclose(np.sort(model.means_[:, 0]), [0.0, 1.0, 4.0], atol=0.15)
print(f"of all rows together: {model.score(together):.6f}")
