"""Transformers are scikit-learn's in results and attributes, whatever the data lies in, and cost no memory for rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import sklearn.decomposition
import sklearn.preprocessing
import xarray as xr
import zarr
from distributed import Client
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from streamem import GaussianHMM, GaussianMixture
from streamem.core.errors import (
    CheckpointMismatchError,
    DataError,
    ModelFileError,
    NonFiniteError,
    ParameterError,
    SchemaError,
)
from streamem.preprocessing import PCA, StandardScaler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)) @ RNG.normal(size=(4, 4)) * [1.0, 10.0, 1e-3, 100.0] + [1e6, 0.0, -3.0, 5.0]
FRAME = pd.DataFrame(X, columns=list("abcd"))
SCALED = ("mean_", "var_", "scale_")
REDUCED = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "mean_",
    "noise_variance_",
)


def close(found: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-9 * np.abs(expected).max())


def opened(kind: str, folder: Path) -> Any:
    """The rows in one of many things."""
    if kind == "zarr":
        zarr.create_array(str(folder / "x.zarr"), data=X, chunks=(64, 4))
        return str(folder / "x.zarr")
    if kind == "npy":
        np.save(folder / "x.npy", X)
        return folder / "x.npy"
    FRAME.to_parquet(folder / "x.parquet", row_group_size=90)
    return {
        "array": X,
        "list": X.tolist(),
        "pandas": FRAME,
        "parquet": folder / "x.parquet",
        "table": pq.read_table(folder / "x.parquet"),
        "dask array": da.from_array(X, chunks=(70, 4)),
        "dask frame": dd.from_pandas(FRAME, npartitions=3),
        "xarray": xr.DataArray(X, dims=("n", "d")),
    }[kind]


KINDS = ("array", "list", "pandas", "parquet", "table", "dask array", "dask frame", "xarray", "zarr", "npy")


def as_array(found: Any) -> NDArray[Any]:
    """The rows that a transform gave."""
    if hasattr(found, "to_array"):
        return found.to_array()
    return np.asarray(found.compute(scheduler="synchronous") if hasattr(found, "dask") else found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(kind: str, tmp_path: Path) -> None:
    data = opened(kind, tmp_path)
    scaler, theirs = StandardScaler(chunk_bytes=4096).fit(data), sklearn.preprocessing.StandardScaler().fit(X)
    for name in SCALED:
        close(getattr(scaler, name), getattr(theirs, name))
    assert scaler.n_samples_seen_ == theirs.n_samples_seen_ == 400
    close(as_array(scaler.transform(data)), theirs.transform(X), rtol=1e-7)
    names = getattr(scaler, "feature_names_in_", None)
    assert (names is not None) == (kind in ("pandas", "parquet", "table", "dask frame"))
    pca = PCA(2, chunk_bytes=4096).fit(data)
    other = sklearn.decomposition.PCA(2, svd_solver="covariance_eigh").fit(X)
    for name in REDUCED:
        close(getattr(pca, name), getattr(other, name), rtol=1e-6)
    close(as_array(pca.transform(data)), other.transform(X), rtol=1e-6)


@pytest.mark.parametrize("n_components", [None, 1, 3, 0.5, 0.999999])
@pytest.mark.parametrize("whiten", [False, True])
def test_numbers_of_components(n_components: Any, whiten: bool) -> None:
    ours = PCA(n_components, whiten=whiten).fit(X)
    theirs = sklearn.decomposition.PCA(n_components, whiten=whiten, svd_solver="full").fit(X)
    assert (ours.n_components_, ours.n_samples_) == (theirs.n_components_, theirs.n_samples_)
    scale = np.abs(theirs.explained_variance_).max()
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, atol=1e-12 * scale)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, abs=1e-12 * scale)
    first = ours.transform(X)[:, 0]
    close(first, theirs.transform(X)[:, 0], rtol=1e-6)
    close(ours.inverse_transform(ours.transform(X)), theirs.inverse_transform(theirs.transform(X)), rtol=1e-6)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_missing_values_weights_and_constants() -> None:
    holes = X.copy()
    holes[::7, 1] = np.nan
    holes[:, 2] = 0.1  # constant but for rounding
    weight = RNG.integers(0, 3, size=400).astype(float)
    ours = StandardScaler().fit(holes, sample_weight=weight)
    theirs = sklearn.preprocessing.StandardScaler().fit(holes, sample_weight=weight)
    for name in SCALED:
        close(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_allclose(ours.n_samples_seen_, theirs.n_samples_seen_)
    assert ours.scale_[2] == 1.0
    np.testing.assert_allclose(ours.transform(holes), theirs.transform(holes), atol=1e-7)
    assert StandardScaler().fit(holes).n_samples_seen_.tolist() == [400, 342, 400, 400]
    back = ours.inverse_transform(ours.transform(holes))
    np.testing.assert_allclose(back, holes, rtol=1e-12)
    twice = PCA(2).fit(np.repeat(X, weight.astype(int), axis=0))
    close(PCA(2).fit(X, sample_weight=weight).components_, twice.components_, rtol=1e-6)


@pytest.mark.parametrize(("with_mean", "with_std"), [(False, True), (True, False), (False, False)])
def test_settings_of_the_scaler(with_mean: bool, with_std: bool) -> None:
    ours = StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    theirs = sklearn.preprocessing.StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    assert [getattr(ours, name) is None for name in SCALED] == [getattr(theirs, name) is None for name in SCALED]
    close(ours.transform(X), theirs.transform(X))
    close(ours.inverse_transform(X), theirs.inverse_transform(X))


@pytest.mark.parametrize("transformer", [StandardScaler(), PCA(2)])
def test_batches_are_joined(transformer: Any, tmp_path: Path) -> None:
    whole, parts = clone(transformer).fit(X), clone(transformer)
    for batch in np.array_split(X, 7):
        parts.partial_fit(batch)
    close(parts.transform(X), whole.transform(X), rtol=1e-6)
    parts.save(tmp_path / "t.npz")
    again = type(transformer).load(tmp_path / "t.npz")
    assert again.get_params() == parts.get_params()
    assert np.array_equal(again.transform(X), parts.transform(X))
    assert np.array_equal(again.partial_fit(X[:9]).mean_, parts.partial_fit(X[:9]).mean_)


def test_threads_and_chunks_give_bits(tmp_path: Path) -> None:
    data = opened("zarr", tmp_path)
    one, two = (PCA(2, n_threads=n, chunk_bytes=4096).fit(data) for n in (1, 2))
    assert one.components_.tobytes() == two.components_.tobytes()
    assert one.transform(data).to_array().tobytes() == two.transform(data).to_array().tobytes()


def test_a_cluster_gives_the_bits_of_threads(client: Client, tmp_path: Path) -> None:
    data = opened("zarr", tmp_path)
    here, there = (PCA(2, chunk_bytes=4096).fit(data, executor=executor) for executor in ("threads", client))
    assert here.components_.tobytes() == there.components_.tobytes()
    rows = here.transform(data)
    gm = GaussianMixture(2, random_state=0, max_iter=3, tol=9.0)
    models = [clone(gm).fit(rows, executor=executor) for executor in ("threads", client)]
    assert models[0].means_.tobytes() == models[1].means_.tobytes()
    here.transform(data, out=tmp_path / "reduced.zarr", executor=client)
    assert zarr.open_array(str(tmp_path / "reduced.zarr"))[:].tobytes() == rows.to_array().tobytes()


def test_float32_stays_and_far_offsets_lose_nothing() -> None:
    far = (RNG.normal(size=(1000, 2)) + 2.0**20).astype(np.float32)
    scaled = StandardScaler().fit_transform(far)
    assert scaled.dtype == np.float32
    exact = far.astype(np.float64)
    np.testing.assert_allclose(scaled, (exact - exact.mean(0)) / exact.std(0), atol=1e-6)


def test_containers_are_scikit_learns() -> None:
    frame = StandardScaler().set_output(transform="pandas").fit_transform(FRAME.set_index(FRAME.index * 2))
    assert list(frame.columns) == list("abcd")
    assert frame.index[-1] == 798
    assert list(PCA(2).set_output(transform="polars").fit_transform(FRAME).columns) == ["pca0", "pca1"]


# --- pipelines -------------------------------------------------------------------------------------------------------


def two_groups(n: int) -> NDArray[Any]:
    return (RNG.normal(size=(n, 3)) + 6.0 * (np.arange(n) % 2)[:, None]) * [1.0, 1000.0, 1e-3]


@pytest.mark.parametrize("kind", ["zarr", "parquet", "filtered"])
def test_a_pipeline_out_of_core(kind: str, tmp_path: Path) -> None:
    x = two_groups(2000)
    pd.DataFrame(x, columns=list("xyz")).assign(age=np.arange(2000)).to_parquet(tmp_path / "x.parquet")
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(300, 3))
    scaler = StandardScaler(columns=None if kind == "zarr" else ["x", "y", "z"])
    data: Any = tmp_path / f"x.{'zarr' if kind == 'zarr' else 'parquet'}"
    if kind == "filtered":
        data = ds.dataset(data).filter(ds.field("age") > 99)
        x = x[100:]
    pipe = make_pipeline(scaler, PCA(2), GaussianMixture(2, random_state=0)).fit(data)
    theirs = make_pipeline(sklearn.preprocessing.StandardScaler(), sklearn.decomposition.PCA(2)).fit(x)
    alone = GaussianMixture(2, random_state=0).fit(theirs.transform(x))
    assert pipe.score(data) == pytest.approx(alone.score(theirs.transform(x)), rel=1e-6)
    labels = pipe.predict(data)
    assert (labels == labels[0]).sum() == len(x) // 2
    rows: Any = x if kind == "zarr" else pd.DataFrame(x, columns=list("xyz"))
    assert np.array_equal(pipe.predict(rows), labels), "arrays in, arrays out"
    assert pipe.predict(data, out=tmp_path / "labels.zarr") == tmp_path / "labels.zarr"
    assert np.array_equal(zarr.open_array(str(tmp_path / "labels.zarr"))[:], labels)


def test_identity_goes_through_a_pipeline(tmp_path: Path) -> None:
    x = two_groups(240)
    x[5] = np.nan
    grid = xr.Dataset(
        {n: (("lat", "lon"), x[:, i].reshape(12, 20)) for i, n in enumerate("uvw")}, {"lon": np.arange(20)}
    )
    pipe = make_pipeline(StandardScaler(), PCA(2), GaussianMixture(2, random_state=0)).fit(grid)
    labels = pipe.predict(grid)
    assert (labels.dims, int(labels[0, 5]), "lon" in labels.coords) == (("lat", "lon"), -1, True)
    frame = pd.DataFrame(two_groups(50), columns=list("uvw"), index=pd.Index(np.arange(50) * 3, name="id"))
    frame.to_parquet(tmp_path / "x.parquet")
    pipe.predict(tmp_path / "x.parquet", out=tmp_path / "labels.parquet")
    assert pq.read_table(tmp_path / "labels.parquet").column("id").to_pylist() == frame.index.tolist()
    lazy = dd.from_pandas(frame, npartitions=2)
    assert pipe.predict(lazy).divisions == lazy.divisions
    grid.u[3, 3] = np.nan
    with pytest.raises(NonFiniteError, match="not in part"):
        pipe.predict(grid)


def test_chains_behind_a_scaler(tmp_path: Path) -> None:
    x = two_groups(300)
    x[7] = np.nan
    np.save(tmp_path / "x.npy", x)
    pipe = make_pipeline(StandardScaler(), GaussianHMM(2, random_state=0)).fit(tmp_path / "x.npy")
    assert np.bincount(pipe.predict(tmp_path / "x.npy")).sum() == 300


def test_chains_behind_a_scaler_find_their_sequences(tmp_path: Path) -> None:
    frame = pd.DataFrame(two_groups(300), columns=list("xyz")).assign(gene=np.repeat(["a", "b", "c"], 100))
    frame.to_parquet(tmp_path / "genes.parquet")
    pipe = make_pipeline(StandardScaler(columns=["x", "y", "z"]), GaussianHMM(2, random_state=0))
    pipe.fit(tmp_path / "genes.parquet", gaussianhmm__sequence_column="gene")
    assert pipe[-1].sequences_by_ == {"sequence_column": "gene"}
    pipe.predict(tmp_path / "genes.parquet", out=tmp_path / "states.parquet")
    assert pq.read_table(tmp_path / "states.parquet").column("gene").to_pylist() == frame.gene.tolist()


def test_a_killed_pipeline_goes_on(tmp_path: Path) -> None:
    """A transformed source has a fingerprint that is equal as long as the data and the transformer are."""
    np.save(tmp_path / "x.npy", two_groups(400))
    steps = StandardScaler(), GaussianMixture(2, random_state=0)
    whole = make_pipeline(*map(clone, steps)).fit(tmp_path / "x.npy")
    options = {"gaussianmixture__checkpoint": tmp_path / "run.npz"}
    make_pipeline(*map(clone, steps)).fit(tmp_path / "x.npy", **options)
    again = make_pipeline(*map(clone, steps)).fit(tmp_path / "x.npy", **options)
    assert again[-1].means_.tobytes() == whole[-1].means_.tobytes()
    with pytest.raises(CheckpointMismatchError):
        make_pipeline(StandardScaler(with_mean=False), clone(steps[1])).fit(tmp_path / "x.npy", **options)


def test_transformed_rows_can_be_written(tmp_path: Path) -> None:
    data = opened("parquet", tmp_path)
    out = PCA(2).fit(data).transform(data, out=tmp_path / "reduced.parquet")
    assert pq.read_table(out).column_names == ["pca0", "pca1"]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        StandardScaler().transform(X)
    with pytest.raises(ParameterError, match="n_components is 0"):
        PCA(0).fit(X)
    with pytest.raises(ParameterError, match="n_components is 1.5"):
        PCA(1.5).fit(X)
    with pytest.raises(ParameterError, match=r"n_components=9 must be between 1 and min\(n_samples, n_features\)=4"):
        PCA(9).fit(X)
    with pytest.raises(ParameterError, match="with_mean is 'no'"):
        StandardScaler(with_mean="no").fit(X)
    with pytest.raises(NonFiniteError, match="column 1"):
        PCA(2).fit(np.where(np.arange(4) == 1, np.nan, X))
    with pytest.raises(NonFiniteError):
        StandardScaler().fit(np.where(np.arange(4) == 1, np.inf, X))
    with pytest.raises(DataError, match="weights are all zero"):
        StandardScaler().fit(X, sample_weight=np.zeros(400))
    with pytest.raises(DataError, match="n_samples=1 "):
        PCA().fit(X[:1])
    scaler = StandardScaler().fit(opened("parquet", tmp_path))
    np.save(tmp_path / "three.npy", X[:, :3])
    FRAME[["a", "b", "c"]].to_parquet(tmp_path / "y.parquet")
    with pytest.raises(SchemaError, match="has 3 features, but StandardScaler is expecting 4"):
        scaler.transform(tmp_path / "three.npy")
    with pytest.raises(SchemaError, match="no column 'd'"):
        scaler.transform(tmp_path / "y.parquet")
    with pytest.raises(DataError, match=r"shape \(n, 4\)"):
        scaler.inverse_transform(X[0])
    with pytest.raises(ParameterError, match="ends in .npz"):
        scaler.save(tmp_path / "scaler.pkl")
    scaler.save(tmp_path / "scaler.npz")
    with pytest.raises(ModelFileError, match="holds a StandardScaler, not a PCA"):
        PCA.load(tmp_path / "scaler.npz")
    with pytest.raises(ModelFileError):
        GaussianMixture.load(tmp_path / "scaler.npz")
