"""Jobs in the number of lines that they should take; memory that does not grow with rows; scikit-learn's own checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import streamem.xarray  # noqa: F401
from streamem import Categorical, Gaussian, GaussianHMM, GaussianMixture, Mixture, Poisson, Product
from streamem.core.errors import SchemaError
from streamem.preprocessing import PCA, StandardScaler

RNG = np.random.default_rng(0)


def test_clusters_in_mixed_parquet(tmp_path: Path) -> None:
    """Two lines: columns of numbers, counts and text with gaps; labels lie beside the identifiers."""
    kind = RNG.integers(2, size=3000)
    people = {
        "income": RNG.normal(np.array([30.0, 50.0])[kind], 5.0),
        "visits": RNG.poisson(np.array([2.0, 9.0])[kind]),
        "region": pa.array(
            np.where(RNG.random(3000) < 0.2 + 0.6 * kind, "south", "north"), mask=RNG.random(3000) < 0.1
        ),
        "id": np.arange(3000) * 7,
    }
    path, out = tmp_path / "people.parquet", tmp_path / "kinds.parquet"
    pq.write_table(pa.table(people), path)
    family = Product({"income": Gaussian(), "visits": Poisson(), "region": Categorical()})
    # --- the job
    mix = Mixture(family, 2, missing="integrate", random_state=0).fit(path, columns=["income", "visits", "region"])
    mix.predict(path, out=out, id_columns=["id"])
    # ---
    found = pq.read_table(out).to_pydict()
    assert found["id"] == people["id"].tolist()
    right = (np.array(found["label"]) == kind).mean()
    assert max(right, 1 - right) > 0.95


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


def test_classes_of_ocean_profiles(tmp_path: Path) -> None:
    """Five lines, pyxpcm's job: variables, standardize, PCA, mixture, and a map of labels with coordinates."""
    data, mass = ocean()
    packed = {"dtype": "int16", "scale_factor": 1e-2, "_FillValue": -32768}
    data.to_zarr(tmp_path / "ocean.zarr", encoding={"TEMP": packed, "PSAL": packed}, consolidated=False)
    # --- the job
    ds = xr.open_zarr(tmp_path / "ocean.zarr", consolidated=False)
    model = make_pipeline(StandardScaler(), PCA(0.9), GaussianMixture(2, random_state=0))
    ds.streamem.fit(model, feature_axis="depth", columns=["TEMP", "PSAL"])
    ds["label"] = ds.streamem.predict(model, feature_axis="depth", columns=["TEMP", "PSAL"])
    chances = ds.streamem.predict_proba(model, feature_axis="depth", columns=["TEMP", "PSAL"])
    # ---
    assert ds.label.dims == ("lat", "lon")
    assert set(ds.label.coords) == {"lat", "lon"}
    assert ((ds.label.values == -1) == (mass == -1)).all()
    assert abs(np.corrcoef(ds.label.values[mass >= 0], mass[mass >= 0])[0, 1]) > 0.99
    assert chances.dims == ("lat", "lon", "component")
    assert model[0].n_features_in_ == 12
    with pytest.raises(SchemaError, match=r"'PSAL\[0\]'.* were chosen, but .*'TEMP\[0\]'.* were fitted"):
        ds.streamem.predict(model, feature_axis="depth", columns=["PSAL", "TEMP"])


def test_soft_clusters_of_embeddings_then_a_service(tmp_path: Path) -> None:
    """Four lines here; then a service with NumPy alone, and one with scikit-learn."""
    kind = RNG.integers(3, size=1500)
    x = (RNG.normal(size=(3, 16))[kind] * 3 + RNG.normal(size=(1500, 16))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 16)
    path = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"id": np.arange(1500), "e": column}), path)
    # --- the job
    pca = PCA(4, columns=["e"]).fit(path)
    gm = GaussianMixture(3, random_state=0).fit(pca.transform(path))
    pca.save(tmp_path / "pca.npz")
    gm.save(tmp_path / "gm.npz")
    # --- a service with NumPy alone
    with np.load(tmp_path / "pca.npz") as p, np.load(tmp_path / "gm.npz") as g:
        z = (x - p["mean_"]) @ p["components_"].T
        weights, means, factors = g["weights_"], g["means_"], g["precisions_cholesky_"]
    white = np.einsum("nkd,kde->nke", z[:, None] - means, factors)
    joint = np.log(weights * np.diagonal(factors, axis1=1, axis2=2).prod(1)) - 0.5 * (white**2).sum(2)
    chances = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    # ---
    expected = gm.predict_proba(pca.transform(path))
    np.testing.assert_allclose(chances, expected, atol=1e-4)
    np.testing.assert_allclose(gm.to_sklearn().predict_proba(z), expected, atol=1e-4)
    assert len({tuple(np.bincount(kind[expected.argmax(1) == k], minlength=3) > 100) for k in range(3)}) == 3


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
    """A pipeline over 488 MiB of rows takes at most 160 MiB more than one over few: chunks kept, and in flight."""
    zarr = pytest.importorskip("zarr")
    for name, pieces in (("small", 1), ("large", 40)):
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
    assert np.load(tmp_path / "labels.npy", mmap_mode="r").shape == (4_000_000,)
