"""Five jobs that people come with, in as many lines as they should take, beside the lines of before.

| job | lines before | now |
|---|---|---|
| clusters in mixed Parquet, labels beside the identifiers | 6 | 3 |
| classes of ocean profiles on a map, pyxpcm's job | 12 (all rows in memory) | 5 |
| soft clusters of embeddings, and a copy for a service that has scikit-learn | 13 | 4 |
| a live anomaly detector | 4 | 4 |
| states of sequences by gene, in a file that can be joined | 5 | 2 |

Before is the version of 30 November 2026, 15:00: no preprocessing, answers without identity, no way out. Its lines
still run, and do the same jobs: both stand here, are run as they stand, and are counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.decomposition
import sklearn.mixture
import sklearn.preprocessing
import xarray as xr
from sklearn.pipeline import make_pipeline

import streamem
import streamem.xarray
from streamem.plots import plot_history
from streamem.preprocessing import PCA, StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMPORTED = {
    **{name: getattr(streamem, name) for name in streamem.__all__},
    **{module.__name__: module for module in (np, pq, xr, json, joblib)},
    "np": np,
    "pq": pq,
    "xr": xr,
    "sklearn": sklearn,
    "make_pipeline": make_pipeline,
    "PCA": PCA,
    "StandardScaler": StandardScaler,
}


def done(lines: str, **known: Any) -> dict[str, Any]:
    """The names that the lines leave, run as they stand."""
    names: dict[str, Any] = {**IMPORTED, **known}
    exec(lines, names)
    return names


def count(lines: str) -> int:
    return len(lines.strip().splitlines())


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def agreement(labels: Any, truth: Any) -> float:
    """Share of rows that two classes are right about, whichever is called which."""
    right = float((np.asarray(labels) == truth).mean())
    return max(right, 1 - right)


# --- clusters in mixed Parquet ---------------------------------------------------------------------------------------

PEOPLE = """
mix = Mixture("income:lognormal,visits:poisson,region:categorical", 2, missing="integrate", random_state=0)
mix.fit("people.parquet", columns=["income", "visits", "region"])
mix.predict("people.parquet", out="kinds.parquet", id_columns=["id"])
"""
PEOPLE_BEFORE = """
mix = Mixture("income:lognormal,visits:poisson,region:categorical", 2, missing="integrate", random_state=0)
mix.fit("people.parquet", columns=["income", "visits", "region"])
mix.predict("people.parquet", out="labels.parquet", id_columns=[])
labels = pq.read_table("labels.parquet")
ids = pq.read_table("people.parquet", columns=["id"])
pq.write_table(ids.append_column("label", labels["label"]), "kinds.parquet")
"""


@pytest.mark.parametrize(("lines", "length"), [(PEOPLE, 3), (PEOPLE_BEFORE, 6)], ids=["now", "before"])
def test_clusters_in_mixed_parquet(lines: str, length: int) -> None:
    """Columns of amounts, counts and text with gaps; labels lie beside the identifiers."""
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=3000)
    region = np.where(rng.random(3000) < 0.2 + 0.6 * kind, "south", "north")
    people = {
        "income": np.exp(rng.normal(np.array([7.0, 8.0])[kind], 0.3)),
        "visits": pa.array(rng.poisson(np.array([2.0, 9.0])[kind]), mask=rng.random(3000) < 0.1),
        "region": pa.array(region, mask=rng.random(3000) < 0.1),
        "id": np.arange(3000) * 7,
    }
    pq.write_table(pa.table(people), "people.parquet", row_group_size=1000)
    done(lines)
    found = pq.read_table("kinds.parquet").to_pydict()
    assert found["id"] == people["id"].tolist()
    assert agreement(found["label"], kind) > 0.95
    assert count(lines) == length


# --- classes of ocean profiles ---------------------------------------------------------------------------------------

OCEAN = """
ds = xr.open_zarr("ocean.zarr", consolidated=False)
model = make_pipeline(StandardScaler(), PCA(0.9), GaussianMixture(2, random_state=0))
ds.streamem.fit(model, feature_axis="depth", columns=["TEMP", "PSAL"])
ds["label"] = ds.streamem.predict(model, feature_axis="depth", columns=["TEMP", "PSAL"])
ds["chance"] = ds.streamem.predict_proba(model, feature_axis="depth", columns=["TEMP", "PSAL"])
"""
OCEAN_BEFORE = """
ds = xr.open_zarr("ocean.zarr", consolidated=False)
cube = np.concatenate([ds.TEMP.values, ds.PSAL.values], axis=2)
sea = ~np.isnan(cube).all(axis=2)
scaled = sklearn.preprocessing.StandardScaler().fit_transform(cube[sea])
rows = sklearn.decomposition.PCA(0.9).fit_transform(scaled)
gm = GaussianMixture(2, random_state=0).fit(rows)
labels = np.full(sea.shape, -1)
labels[sea] = gm.predict(rows)
ds["label"] = (("lat", "lon"), labels)
chances = np.full((*sea.shape, 2), np.nan)
chances[sea] = gm.predict_proba(rows)
ds["chance"] = (("lat", "lon", "component"), chances)
"""


def ocean(rng: np.random.Generator) -> Any:
    """Profiles of temperature and salinity on a grid, packed as CF has it, missing over land; and their water mass."""
    lat, lon, depth = np.arange(12.0), np.arange(16.0), np.arange(6.0)
    mass = (lat[:, None] + 0 * lon > 5).astype(int)
    land = np.zeros((12, 16), dtype=bool)
    land[3:7, 4:9] = True
    warm = np.array([4.0, 20.0])[mass][..., None] * np.exp(-depth / 4) + rng.normal(0, 0.3, (12, 16, 6))
    salt = np.array([34.0, 36.0])[mass][..., None] + rng.normal(0, 0.05, (12, 16, 6))
    dims = ("lat", "lon", "depth")
    columns = {name: (dims, np.where(land[..., None], np.nan, x)) for name, x in (("TEMP", warm), ("PSAL", salt))}
    packed = {"dtype": "int16", "scale_factor": 1e-2, "_FillValue": -32768}
    data = xr.Dataset(columns, {"lat": lat, "lon": lon, "depth": depth})
    data.to_zarr("ocean.zarr", encoding={"TEMP": packed, "PSAL": packed}, consolidated=False)
    return np.where(land, -1, mass)


@pytest.mark.parametrize(("lines", "length"), [(OCEAN, 5), (OCEAN_BEFORE, 12)], ids=["now", "before"])
def test_classes_of_ocean_profiles(lines: str, length: int) -> None:
    """Variables, standardize, PCA, mixture, and maps of labels and of probabilities with coordinates."""
    mass = ocean(np.random.default_rng(0))
    ds = done(lines)["ds"]
    assert set(ds.label.coords) == {"lat", "lon"}
    assert ((ds.label.values == -1) == (mass == -1)).all()
    assert agreement(ds.label.values[mass >= 0], mass[mass >= 0]) > 0.99
    assert ds.chance.dims == ("lat", "lon", "component")
    assert (np.isnan(ds.chance.values).all(-1) == (mass == -1)).all()
    assert count(lines) == length


# --- soft clusters of embeddings, then a service ---------------------------------------------------------------------

EMBEDDINGS = """
model = make_pipeline(PCA(4, columns=["e"]), GaussianMixture(3, random_state=0)).fit("embeddings.parquet")
model.predict_proba("embeddings.parquet", out="chances.npy")
copy = make_pipeline(model[0].to_sklearn(), model[1].to_sklearn())
joblib.dump(copy, "service.joblib")
"""
EMBEDDINGS_BEFORE = """
pca = sklearn.decomposition.IncrementalPCA(4)
for batch in pq.ParquetFile("embeddings.parquet").iter_batches(500, columns=["e"]):
    pca.partial_fit(batch["e"].flatten().to_numpy().reshape(len(batch), -1))
with open("reduced.f4", "wb") as file:
    for batch in pq.ParquetFile("embeddings.parquet").iter_batches(500, columns=["e"]):
        file.write(pca.transform(batch["e"].flatten().to_numpy().reshape(len(batch), -1)).astype("f4").tobytes())
reduced = np.memmap("reduced.f4", "f4", "r").reshape(-1, 4)
gm = GaussianMixture(3, random_state=0).fit(reduced)
gm.predict_proba(reduced, out="chances.npy")
theirs = sklearn.mixture.GaussianMixture(3)
for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "converged_", "n_iter_", "lower_bound_"):
    setattr(theirs, name, getattr(gm, name))
joblib.dump(make_pipeline(pca, theirs), "service.joblib")
"""


@pytest.mark.parametrize(("lines", "length"), [(EMBEDDINGS, 4), (EMBEDDINGS_BEFORE, 13)], ids=["now", "before"])
def test_soft_clusters_of_embeddings_then_a_service(lines: str, length: int) -> None:
    """Reduce, cluster, write probabilities; the service loads an object of scikit-learn, and gives the same."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=1500)
    x = (rng.normal(size=(3, 16))[kind] * 3 + rng.normal(size=(1500, 16))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 16)
    pq.write_table(pa.table({"id": np.arange(1500), "e": column}), "embeddings.parquet", row_group_size=500)
    done(lines)
    chances = np.load("chances.npy")
    service = joblib.load("service.joblib")
    assert all(type(step).__module__.startswith("sklearn.") for _, step in service.steps)
    np.testing.assert_allclose(service.predict_proba(x), chances, atol=1e-3)
    assert len({tuple(np.bincount(kind[chances.argmax(1) == k], minlength=3) > 100) for k in range(3)}) == 3
    assert count(lines) == length


def test_a_service_with_numpy_alone() -> None:
    """Two files, and the lines that score rows by them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8)) + 4 * (np.arange(600) % 2)[:, None] * np.eye(8)[0]
    model = make_pipeline(PCA(4), streamem.GaussianMixture(2, random_state=0)).fit(x)
    model[0].save("pca.npz")
    model[1].save("gm.npz")
    # --- from here on NumPy alone
    with np.load("pca.npz") as p, np.load("gm.npz") as g:
        z = (x - p["mean_"]) @ p["components_"].T
        weights, means, factors = g["weights_"], g["means_"], g["precisions_cholesky_"]
    white = np.einsum("nkd,kde->nke", z[:, None] - means, factors)
    joint = np.log(weights * np.diagonal(factors, axis1=1, axis2=2).prod(1)) - 0.5 * (white**2).sum(2)
    chances = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    # ---
    np.testing.assert_allclose(chances, model.predict_proba(x), atol=1e-9)


# --- a live anomaly detector -----------------------------------------------------------------------------------------


def payments(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """(log amount, hour), and which of them are frauds."""
    x = rng.normal([[3.0, 12.0], [6.0, 19.0]], [0.5, 1.5], size=(rows // 2, 2, 2)).reshape(-1, 2)
    fraud = rng.random(rows) < 0.01
    x[fraud] = rng.uniform([8.5, 0.0], [11.0, 24.0], size=(fraud.sum(), 2))
    return x, fraud


DETECTOR = """
gm = GaussianMixture(2, random_state=0)
gm.fit_stream("payments.jsonl", half_life=5_000, checkpoint="live.npz", dead_letter="bad.arrows")
unusual = np.quantile(gm.score_samples(gm.sample(20_000)[0]), 1 / 2_000)
alarm = GaussianMixture.load("live.npz").score_samples(new) < unusual
"""
"""As before: what was missing were pictures of the history, and metrics."""


def test_a_live_anomaly_detector() -> None:
    """Learn a stream with broken records, save, and say of new rows which are odd."""
    rng = np.random.default_rng(0)
    honest, fraud = payments(rng, 8_000)
    records = [json.dumps(payment) for payment in honest[~fraud].tolist()]
    records[500:500] = ["[null, 3]", "[2.5]", "broken"]
    Path("payments.jsonl").write_text("\n".join(records) + "\n")
    new, fraud = payments(rng, 4_000)
    found = done(DETECTOR, new=new)
    alarm = found["alarm"]
    assert fraud.sum() > 20
    assert (alarm & fraud).sum() > 0.9 * fraud.sum()
    assert (alarm & ~fraud).sum() < 10
    with pa.OSFile("bad.arrows") as file, pa.ipc.open_stream(file) as reader:
        assert reader.read_all().num_rows == 3
    assert plot_history(found["gm"])[0].get_title() == f"8 updates, {len(records) - 3:,} rows"
    assert count(DETECTOR) == 4


# --- states of sequences by gene -------------------------------------------------------------------------------------

GENES = """
hmm = GaussianHMM(2, random_state=0).fit("tracks.parquet", columns=["signal"], sequence_column="gene")
hmm.predict("tracks.parquet", out="states.parquet", id_columns=["gene", "position"])
"""
GENES_BEFORE = """
hmm = GaussianHMM(2, random_state=0).fit("tracks.parquet", columns=["signal"], sequence_column="gene")
hmm.predict("tracks.parquet", sequence_column="gene", out="labels.parquet", id_columns=[])
states = pq.read_table("labels.parquet")
named = pq.read_table("tracks.parquet", columns=["gene", "position"])
pq.write_table(named.append_column("state", states[0]), "states.parquet")
"""


@pytest.mark.parametrize(("lines", "length"), [(GENES, 2), (GENES_BEFORE, 5)], ids=["now", "before"])
def test_states_of_sequences_by_gene(lines: str, length: int) -> None:
    """Which stretches of every gene are open, in a file that can be joined back."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(80, 300, size=30)
    is_open = np.concatenate([(np.arange(n) // 40 + rng.integers(2)) % 2 for n in lengths])
    tracks = {
        "gene": np.repeat([f"G{i:02d}" for i in range(30)], lengths),
        "position": np.concatenate([np.arange(n) for n in lengths]),
        "signal": rng.normal(3.0 * is_open, 1.0),
    }
    pq.write_table(pa.table(tracks), "tracks.parquet", row_group_size=700)  # genes are cut by row groups
    hmm = done(lines)["hmm"]
    states = pq.read_table("states.parquet")
    assert states["gene"].to_pylist() == tracks["gene"].tolist()
    (label,) = set(states.column_names) - {"gene", "position"}
    higher = int(np.argmax(hmm.means_[:, 0]))
    assert (np.asarray(states[label]) == higher).astype(int).tolist() != is_open.tolist()  # steps are noisy
    assert np.mean((np.asarray(states[label]) == higher) == is_open) > 0.97
    assert count(lines) == length
