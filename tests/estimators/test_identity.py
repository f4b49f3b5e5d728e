"""Answers know the rows that they are about: index, dimensions, coordinates, divisions, identifiers beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from sklearn import config_context
from sklearn.base import clone

from streamem import GaussianHMM, GaussianMixture, GroupedMixture, Mixture, RecordLinkage
from streamem.core.errors import NonFiniteError, ParameterError, SchemaError

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(5.0 * k, 1.0, size=(60, 2)) for k in range(2)])[RNG.permutation(120)]
FRAME = pd.DataFrame(X, columns=["t", "s"], index=pd.Index([f"p{i}" for i in range(120)], name="profile"))
QUESTIONS = {"predict": "label", "predict_proba": "probability_0", "score_samples": "log_density"}


@pytest.fixture(scope="module")
def gm() -> GaussianMixture:
    return GaussianMixture(2, random_state=0).fit(FRAME)


def told(gm: GaussianMixture, container: str) -> GaussianMixture:
    """A fitted copy that answers in a container."""
    return GaussianMixture.from_sklearn(gm.to_sklearn()).set_output(container)


# --- pandas and polars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_containers_hold_what_arrays_do(gm: GaussianMixture, question: str) -> None:
    expected = getattr(gm, question)(FRAME)
    assert type(expected) is np.ndarray
    found = getattr(told(gm, "pandas"), question)(FRAME)
    assert isinstance(found, pd.Series | pd.DataFrame)
    assert found.index.equals(FRAME.index)
    assert found.index.name == "profile"
    names = [found.name] if isinstance(found, pd.Series) else list(found.columns)
    assert names[0] == QUESTIONS[question]
    np.testing.assert_allclose(found.to_numpy(), expected)
    polars = getattr(told(gm, "polars"), question)(pl.from_pandas(FRAME.reset_index(drop=True)))
    assert isinstance(polars, pl.Series | pl.DataFrame)
    np.testing.assert_allclose(polars.to_numpy(), expected)


def test_rows_without_an_index_are_counted(gm: GaussianMixture, tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "x.parquet")
    model = told(gm, "pandas")
    for data in (FRAME.reset_index(drop=True), tmp_path / "x.parquet", pa.table({"t": X[:, 0], "s": X[:, 1]})):
        assert model.predict(data).index.equals(pd.RangeIndex(120))
    half = model.predict(FRAME[FRAME.t > 2.0])
    assert half.index.tolist() == FRAME.index[FRAME.t > 2.0].tolist()


def test_the_choice_is_scikit_learns(gm: GaussianMixture) -> None:
    model = GaussianMixture(2, random_state=0).set_output(transform="pandas")
    assert isinstance(clone(model).fit(FRAME).predict(FRAME), pd.Series)
    frame = model.fit(FRAME).transform(FRAME)
    assert list(frame.columns) == ["gaussianmixture0", "gaussianmixture1"]
    assert frame.index.equals(FRAME.index)
    assert isinstance(model.set_output(transform="default").predict(FRAME), np.ndarray)
    assert isinstance(model.set_output("polars").set_output(None).fit_predict(FRAME), pl.Series)
    with config_context(transform_output="pandas"):
        assert isinstance(gm.transform(FRAME), pd.DataFrame)
        assert type(gm.predict(FRAME)) is np.ndarray
    with pytest.raises(ParameterError, match="'arrow'; it must be one of"):
        model.set_output("arrow")


def test_chains_and_pairs_have_containers_too() -> None:
    hmm = GaussianHMM(2, random_state=0).set_output("pandas").fit(FRAME)
    _, states = hmm.decode(FRAME)
    for found in (states, hmm.predict(FRAME), hmm.predict_proba(FRAME)):
        assert found.index.equals(FRAME.index)
    links = RecordLinkage(n_levels=2, max_iter=5, tol=1.0).set_output("pandas")
    pairs = (FRAME > 2.5).astype(float)
    assert list(links.fit(pairs).score_pairs(pairs).columns) == ["match_weight", "match_probability"]
    assert isinstance(links.transform(pairs), pd.DataFrame)


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_dask_frames_keep_index_and_divisions(gm: GaussianMixture, question: str) -> None:
    frame = FRAME.sort_index()
    lazy = dd.from_pandas(frame, npartitions=3)
    answer = getattr(gm, question)(lazy)
    assert answer.known_divisions
    assert answer.divisions == lazy.divisions
    found = answer.compute(scheduler="synchronous")
    assert found.index.equals(frame.index)
    np.testing.assert_allclose(found.to_numpy(), getattr(gm, question)(frame))
    if question == "predict":
        other = GaussianMixture(2, random_state=0, max_iter=0).fit(frame.iloc[:20])
        both = dask.compute(gm.score_samples(lazy), other.score_samples(lazy), scheduler="synchronous")
        assert (both[0] - both[1]).abs().max() > 0.1, "answers of different models have different keys"
        joined = lazy.assign(label=answer).compute(scheduler="synchronous")
        assert joined.label.tolist() == found.tolist()


# --- xarray ----------------------------------------------------------------------------------------------------------

LAND = np.zeros((6, 20), dtype=bool)
LAND[1:3, 4:15] = LAND[5] = True


def ocean() -> xr.Dataset:
    """Six latitudes and twenty longitudes; of land nothing was observed."""
    cube = X.reshape(6, 20, 2).copy()
    cube[LAND] = np.nan
    coords = {"lat": np.arange(6.0), "lon": np.arange(20.0), "basin": (("lat", "lon"), np.full((6, 20), "A"))}
    return xr.Dataset({name: (("lat", "lon"), cube[..., i]) for i, name in enumerate("ts")}, coords)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_land_mask_stays_a_mask(lazy: bool, tmp_path: Path) -> None:
    data = ocean()
    if lazy:
        data["basin"] = data.basin.astype(object) == "A"
        data.chunk({"lat": 2}).to_zarr(tmp_path / "o.zarr", consolidated=False)
        data = xr.open_zarr(tmp_path / "o.zarr", consolidated=False)[["t", "s"]]  # a folder lists them in any order
    gm = GaussianMixture(2, random_state=0).fit(data)
    alone = GaussianMixture(2, random_state=0).fit(X.reshape(6, 20, 2)[~LAND])
    order, own = np.argsort(gm.means_[:, 0]), np.argsort(alone.means_[:, 0])
    np.testing.assert_allclose(gm.means_[order], alone.means_[own], rtol=1e-6)
    assert gm.score(data) == pytest.approx(alone.score(X.reshape(6, 20, 2)[~LAND]), rel=1e-6)
    labels, chances, density = gm.predict(data), gm.predict_proba(data), gm.score_samples(data)
    assert (labels.dims, labels.name, labels.dtype) == (("lat", "lon"), "label", np.int64)
    assert set(labels.coords) == {"lat", "lon", "basin"}
    assert ((labels.values == -1) == LAND).all()
    assert chances.dims == ("lat", "lon", "component")
    assert (np.isnan(chances.values).all(-1) == LAND).all()
    assert (np.isnan(density.values) == LAND).all()
    np.testing.assert_allclose(chances.where(labels >= 0).sum("component").values[~LAND], 1.0)
    assert gm.predict(data.sel(lat=0.0)).dims == ("lon",)


def test_points_seen_in_part_are_still_refused() -> None:
    data = ocean()
    data.t[0, 0] = np.nan
    with pytest.raises(NonFiniteError):
        GaussianMixture(2, random_state=0).fit(data)
    whole = xr.Dataset({name: value * np.nan for name, value in data.data_vars.items()})
    with pytest.raises(NonFiniteError):
        GaussianMixture(2, random_state=0).fit(whole)
    gm = GaussianMixture(2, random_state=0, missing="integrate").fit(data)
    assert ((gm.predict(data).values == -1) == LAND).all()
    filled = gm.impute(data)
    assert filled.dims == ("lat", "lon", "column")
    assert filled.sel(column="s").values[0, 0] == data.s.values[0, 0]
    assert (np.isnan(filled.values).all(-1) == LAND).all()


def test_families_that_cannot_take_a_zero_keep_their_mask() -> None:
    """Land is filled with a row that was observed, whose values every family takes."""
    data = np.exp(ocean() / 10.0)
    labels = Mixture("gamma", 2, random_state=0, max_iter=5, tol=1.0).fit(data).predict(data)
    assert ((labels.values == -1) == LAND).all()


def test_arrays_with_a_dimension_of_features() -> None:
    cube = ocean().to_dataarray("variable")
    gm = GaussianMixture(2, random_state=0).fit(cube, feature_axis="variable")
    labels = gm.predict(cube, feature_axis="variable")
    assert labels.dims == ("lat", "lon")
    assert "variable" not in labels.coords
    assert ((labels.values == -1) == LAND).all()
    lazy = xr.DataArray(X, dims=("n", "d"), coords={"n": np.arange(120) * 2}).chunk({"n": 50})
    assert GaussianMixture(2, random_state=0).fit(lazy).predict(lazy).n.values[-1] == 238


def test_chains_of_a_grid() -> None:
    """Steps of trajectories are decoded where nothing was observed, too."""
    data = ocean().rename(lat="trajectory", lon="obs")
    hmm = GaussianHMM(2, random_state=0, tol=1.0).fit(data)
    states = hmm.predict(data)
    assert states.dims == ("trajectory", "obs")
    assert hmm.predict_proba(data).dims == ("trajectory", "obs", "state")


# --- files -----------------------------------------------------------------------------------------------------------


def columns(path: Path) -> dict[str, list[Any]]:
    return pq.read_table(path).to_pydict()


def test_files_carry_the_index(gm: GaussianMixture, tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "x.parquet")
    labels = gm.predict(FRAME).tolist()
    lazy = dd.from_pandas(FRAME, npartitions=2, sort=False)
    for number, data in enumerate((FRAME, tmp_path / "x.parquet", pa.Table.from_pandas(FRAME), lazy)):
        out = tmp_path / f"{number}.parquet"
        gm.predict(data, out=out)
        assert columns(out) == {"profile": FRAME.index.tolist(), "label": labels}
    gm.predict(FRAME, out=tmp_path / "none.parquet", id_columns=[])
    gm.predict(FRAME.reset_index(drop=True), out=tmp_path / "counted.parquet")
    assert list(columns(tmp_path / "none.parquet")) == list(columns(tmp_path / "counted.parquet")) == ["label"]
    unnamed = FRAME.rename_axis(None)
    gm.score_samples(unnamed, out=tmp_path / "unnamed.parquet")
    assert list(columns(tmp_path / "unnamed.parquet")) == ["index", "log_density"]


def test_files_carry_columns_that_are_named(gm: GaussianMixture, tmp_path: Path) -> None:
    frame = FRAME.reset_index().assign(day=np.arange(120) // 10)
    for number, data in enumerate((frame, pl.from_pandas(frame), pa.Table.from_pandas(frame))):
        out = tmp_path / f"{number}.parquet"
        gm.predict_proba(data, out=out, id_columns=["day", "profile"])
        found = columns(out)
        assert list(found) == ["day", "profile", "probability_0", "probability_1"]
        assert found["day"] == frame.day.tolist()
    gm.predict(frame, out=tmp_path / "both.parquet", id_columns=["t"])  # a feature goes along too
    assert columns(tmp_path / "both.parquet")["t"] == frame.t.tolist()
    with pytest.raises(ParameterError, match="pass out="):
        gm.predict(frame, id_columns=["day"])
    with pytest.raises(ParameterError, match="parquet only"):
        gm.predict(frame, out=tmp_path / "x.zarr", id_columns=["day", "profile"])
    with pytest.raises(SchemaError, match="no column 'dya'.*'day'"):
        gm.predict(frame, out=tmp_path / "x.parquet", id_columns=["dya", "day", "profile"])
    renamed = frame[["day", "t", "s"]].rename(columns={"day": "label"})
    with pytest.raises(ParameterError, match="of these names"):
        gm.predict(renamed, out=tmp_path / "x.parquet", id_columns="label")
    with pytest.raises(ParameterError, match="cannot be carried along"):
        GaussianMixture(2, random_state=0).fit(X).predict(X, out=tmp_path / "x.parquet", id_columns="day")


def test_files_carry_coordinates(tmp_path: Path) -> None:
    data = ocean()
    gm = GaussianMixture(2, random_state=0).fit(data)
    gm.predict(data, out=tmp_path / "map.parquet")
    found = pd.read_parquet(tmp_path / "map.parquet")
    assert list(found.columns) == ["lat", "lon", "label"]
    again = found.set_index(["lat", "lon"]).to_xarray().label
    assert (again.values == gm.predict(data).values).all()


def test_groups_carry_their_identifiers(tmp_path: Path) -> None:
    genes = np.repeat([f"g{i}" for i in range(30)], 4)
    frame = FRAME.reset_index(drop=True).assign(gene=genes, day=np.arange(120) // 4)
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=50)
    model = GroupedMixture("gaussian", 2, random_state=0)
    model.fit(tmp_path / "x.parquet", sequence_column="gene", columns=["t", "s"])
    labels = model.predict(tmp_path / "x.parquet")
    model.predict(tmp_path / "x.parquet", out=tmp_path / "a.parquet")
    assert columns(tmp_path / "a.parquet") == {"gene": [f"g{i}" for i in range(30)], "label": labels.tolist()}
    model.predict_proba(tmp_path / "x.parquet", out=tmp_path / "b.parquet", id_columns=["day"])
    assert columns(tmp_path / "b.parquet")["day"] == list(range(30))
    named = model.set_output("pandas").predict(tmp_path / "x.parquet")
    assert (named.index.name, named.index[3], named.tolist()) == ("gene", "g3", labels.tolist())
    assert model.predict(tmp_path / "x.parquet", out=tmp_path / "c.npy") == tmp_path / "c.npy"


def test_states_carry_their_sequences(tmp_path: Path) -> None:
    frame = FRAME.reset_index(drop=True).assign(gene=np.repeat(["a", "b", "c"], 40))
    frame.to_parquet(tmp_path / "genes.parquet")
    hmm = GaussianHMM(2, random_state=0).fit(tmp_path / "genes.parquet", sequence_column="gene")
    log_prob, _ = hmm.decode(tmp_path / "genes.parquet", out=tmp_path / "states.parquet")
    expected, states = hmm.decode(tmp_path / "genes.parquet")
    assert log_prob == expected
    assert columns(tmp_path / "states.parquet") == {"gene": frame.gene.tolist(), "state": states.tolist()}
    hmm.decode(frame, sequence_column="gene", out=tmp_path / "plain.parquet", id_columns=[])
    assert list(columns(tmp_path / "plain.parquet")) == ["state"]
