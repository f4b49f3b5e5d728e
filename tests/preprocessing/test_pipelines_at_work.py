"""Pipelines behind the accessor; memory that does not grow with rows; scikit-learn's own checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import streamem.xarray  # noqa: F401
from streamem import GaussianHMM, GaussianMixture
from streamem.core.errors import ParameterError, SchemaError
from streamem.preprocessing import PCA, StandardScaler

RNG = np.random.default_rng(0)


def ocean() -> tuple[xr.Dataset, np.ndarray[Any, Any]]:
    """Profiles of temperature and salinity on a grid, packed as CF has it, missing over land; and their water mass."""
    lat, lon, depth = np.arange(12.0), np.arange(16.0), np.arange(6.0)
    mass = (lat[:, None] + 0 * lon > 5).astype(int)
    land = np.zeros((12, 16), dtype=bool)
    land[3:7, 4:9] = True
    warm = np.array([4.0, 20.0])[mass][..., None] * np.exp(-depth / 4) + RNG.normal(0, 0.3, (12, 16, 6))
    salt = np.array([34.0, 36.0])[mass][..., None] + RNG.normal(0, 0.05, (12, 16, 6))
    dims = ("lat", "lon", "depth")
    columns = {name: (dims, np.where(land[..., None], np.nan, x)) for name, x in (("TEMP", warm), ("PSAL", salt))}
    return xr.Dataset(columns, {"lat": lat, "lon": lon, "depth": depth}), np.where(land, -1, mass)


@pytest.mark.parametrize("model", ["gmm", GaussianMixture, 3])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ParameterError, match="pass an object of it|pass an estimator"):
        ocean()[0].streamem.fit(model, feature_axis="depth")


def test_columns_in_another_order_are_refused() -> None:
    data, _ = ocean()
    model = make_pipeline(StandardScaler(), PCA(0.9), GaussianMixture(2, random_state=0))
    data.streamem.fit(model, feature_axis="depth", columns=["TEMP", "PSAL"])
    assert model[0].n_features_in_ == 12
    with pytest.raises(SchemaError, match=r"'PSAL\[0\]'.* were chosen, but .*'TEMP\[0\]'.* were fitted"):
        data.streamem.predict(model, feature_axis="depth", columns=["PSAL", "TEMP"])


def test_accessor_of_arrays_and_chains() -> None:
    data, mass = ocean()
    array = data.TEMP
    gm = array.streamem.fit(GaussianMixture(2, random_state=0), feature_axis="depth")
    density = array.streamem.score_samples(gm, feature_axis="depth")
    assert density.dims == ("lat", "lon")
    assert (np.isnan(density.values) == (mass == -1)).all()
    line = data.isel(lat=0)
    hmm = line.streamem.fit(GaussianHMM(2, random_state=0, tol=1.0), feature_axis="depth")
    assert line.streamem.predict(hmm, feature_axis="depth").dims == ("lon",)


@pytest.mark.slow
@pytest.mark.parametrize("transformer", [StandardScaler(), PCA()])
def test_scikit_learns_own_checks(transformer: Any) -> None:
    arbitrary = {"check_sample_weight_equivalence_on_dense_data": "directions without variance are arbitrary"}
    expected = arbitrary if isinstance(transformer, PCA) else {}
    found = check_estimator(transformer, expected_failed_checks=expected, on_skip=None)
    assert sum(check["status"] == "passed" for check in found) > 30


PROGRAM = """
import json, sys
import numpy as np, zarr
from sklearn.pipeline import make_pipeline
from streamem import GaussianMixture
from streamem.preprocessing import PCA, StandardScaler

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmHWM"))

pipe = make_pipeline(StandardScaler(), PCA(4), GaussianMixture(3, random_state=0, max_iter=5, tol=1e9, n_threads=2))
pipe.fit("small.zarr").predict("small.zarr", out="warm.npy")
before = peak()
pipe.fit("large.zarr").predict("large.zarr", out="labels.npy")
print(json.dumps([before, peak()]))
"""


@pytest.mark.slow
@pytest.mark.memory
def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """A pipeline over 244 MiB of rows takes at most 160 MiB more than one over few: chunks kept, and in flight."""
    zarr = pytest.importorskip("zarr")
    for name, pieces in (("small", 1), ("large", 20)):
        path, shape = str(tmp_path / f"{name}.zarr"), (pieces * 100_000, 16)
        store = zarr.create_array(path, shape=shape, chunks=(10_000, 16), dtype="f8")
        for piece in range(pieces):
            rows = np.random.default_rng(piece).normal(size=(100_000, 16))
            rows[:, 0] += 8 * (np.arange(100_000) % 3)
            store[piece * 100_000 : (piece + 1) * 100_000] = rows
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after - before < 160, f"{before} MiB before, {after} MiB after"
    assert np.load(tmp_path / "labels.npy", mmap_mode="r").shape == (2_000_000,)
