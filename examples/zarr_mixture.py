"""Fit a mixture to a Zarr store, label every row into another store, and look at the report.

The store here is small and made up: temperature and salinity profiles of three water masses, on 20 depth levels.
"""

import tempfile
from pathlib import Path

import numpy as np
import zarr

from streamem import GaussianMixture

rng = np.random.default_rng(0)
depth = np.linspace(0, 1, 20)
surface, bottom = np.array([25.0, 14.0, 4.0]), np.array([5.0, 8.0, 2.0])

with tempfile.TemporaryDirectory() as folder:
    store = Path(folder, "profiles.zarr")
    profiles = zarr.create_array(store=str(store), shape=(0, 20), chunks=(10_000, 20), dtype="float32")
    for _ in range(5):
        mass = rng.choice(3, size=10_000, p=[0.5, 0.3, 0.2])
        mean = surface[mass, None] + (bottom - surface)[mass, None] * depth
        wiggle = np.cumsum(rng.normal(size=(10_000, 20)), axis=1) / 5
        profiles.append((mean + wiggle).astype("float32"))

    gm = GaussianMixture(n_components=3, random_state=0, memory_limit="100MiB").fit(store)
    print(gm.report_)

    order = np.argsort(-gm.weights_)
    for k in order:
        print(f"{gm.weights_[k]:.0%} of profiles: {gm.means_[k, 0]:.1f} °C at the top, {gm.means_[k, -1]:.1f} °C below")

    gm.predict(store, out=Path(folder, "labels.zarr"))
    labels = zarr.open_array(str(Path(folder, "labels.zarr")))
    print("rows per component:", np.bincount(labels[:])[order].tolist())

    assert np.allclose(gm.weights_[order], [0.5, 0.3, 0.2], atol=0.02)
    assert np.allclose(gm.means_[order, 0], [25, 14, 4], atol=0.1)
