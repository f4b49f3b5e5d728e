"""Answers about maps, written to ``.zarr``: xarray opens them, and they lie where their data do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from sklearn.pipeline import make_pipeline

import streamem.xarray  # noqa: F401  (the accessor)
from streamem import GaussianHMM, GaussianMixture
from streamem.cli.main import main
from streamem.estimators.asking import opened_for
from streamem.estimators.structure import DataArguments
from streamem.preprocessing import StandardScaler
from streamem.running.answers import Column, result_grid
from streamem.sinks import ResultLayout, open_parted_sink

LAND = np.zeros((6, 20), dtype=bool)
LAND[:2, 4:12] = LAND[5] = True
PACKED = {"dtype": "int16", "scale_factor": 1e-3, "_FillValue": -32768}


def ocean() -> xr.Dataset:
    """Six latitudes and twenty longitudes, two seas and land; with all kinds of coordinates."""
    rng = np.random.default_rng(0)
    sea = np.where(np.arange(20) < 10, 0.0, 5.0) + rng.normal(size=(2, 6, 20))
    sea[:, LAND] = np.nan
    coords = {
        "lat": ("lat", np.arange(6.0), {"units": "degrees_north"}),
        "lon": np.arange(20),
        "basin": (("lat", "lon"), np.where(LAND, "none", "Atlantic")),
        "area": ("lat", np.linspace(1.0, np.nan, 6)),
        "day": ("lon", np.arange("2020-01-01", "2020-01-21", dtype="M8[D]").astype("M8[ns]")),
        "depth": 10.0,
    }
    names = {"t": (("lat", "lon"), sea[0]), "s": (("lat", "lon"), sea[1])}
    return xr.Dataset(names, coords, {"title": "An ocean", "Conventions": "CF-1.11"})


def stored(path: Path, version: int = 3) -> Path:
    chunked = ocean().chunk({"lat": 2, "lon": 7})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts in format 3
        chunked.to_zarr(path, encoding={"t": PACKED, "s": PACKED}, zarr_format=version, consolidated=False)
    return path


def opened(path: Any) -> xr.Dataset:
    """What a user gets, who is told nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xr.open_zarr(path).load()


@pytest.fixture(scope="module")
def gm() -> GaussianMixture:
    return GaussianMixture(2, random_state=0).fit(ocean())


DATA: dict[str, Any] = {
    "a store of format 3": stored,
    "a store of format 2": lambda path: stored(path, version=2),
    "an open group": lambda path: zarr.open_group(stored(path), mode="r"),
    "a lazy Dataset": lambda path: xr.open_zarr(stored(path, version=2), consolidated=False),
    "a Dataset in memory": lambda path: ocean(),
}


@pytest.mark.parametrize("kind", DATA)
def test_an_answer_lies_where_its_data_do(kind: str, gm: GaussianMixture, tmp_path: Path) -> None:
    """Dimensions, coordinates, attributes and the mask of land are those of the data, whatever form these have."""
    data = DATA[kind](tmp_path / "x.zarr")
    gm.predict(data, out=tmp_path / "labels.zarr")
    found = opened(tmp_path / "labels.zarr")
    assert list(found.data_vars) == ["label"]
    expected = ocean()
    aligned, _ = xr.align(found, expected, join="exact")
    assert set(found.coords) == set(expected.coords)
    for name, coordinate in expected.coords.items():
        xr.testing.assert_equal(found.coords[name].variable, coordinate.variable)
    assert found.attrs == expected.attrs
    assert found.lat.attrs == expected.lat.attrs
    assert found.label.dims == ("lat", "lon")
    assert ((found.label.values == -1) == LAND).all()
    merged = expected.assign(label=aligned.label)
    assert (merged.label.values == gm.predict(expected).values).all()
    if kind != "a Dataset in memory":
        assert zarr.open_array(tmp_path / "labels.zarr" / "label").chunks == (2, 7)


def test_probabilities_and_gaps_have_a_dimension_more(tmp_path: Path) -> None:
    path = stored(tmp_path / "x.zarr")
    model = GaussianMixture(2, random_state=0, missing="integrate").fit(path)
    model.predict_proba(path, out=tmp_path / "p.zarr")
    memory = model.predict_proba(xr.open_zarr(path, consolidated=False))
    xr.testing.assert_allclose(opened(tmp_path / "p.zarr").probability, memory)
    model.impute(path, out=tmp_path / "f.zarr")
    filled = opened(tmp_path / "f.zarr").value
    assert (filled.dims, filled.column.values.tolist()) == (("lat", "lon", "column"), ["s", "t"])
    assert (np.isnan(filled.values).all(-1) == LAND).all()


def test_a_dimension_of_features_is_none_of_the_answer(tmp_path: Path) -> None:
    """Pipelines and arrays with a dimension of features, of which the second is cut at chunks of its own."""
    cube = ocean().to_dataarray("variable").rename("cube").drop_attrs().drop_vars(["basin", "variable"])
    cube.chunk({"lat": 3, "lon": 20}).to_zarr(tmp_path / "x.zarr", consolidated=False)
    pipe = make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0))
    data = xr.open_zarr(tmp_path / "x.zarr", consolidated=False)
    data.streamem.fit(pipe, feature_axis="variable")
    data.streamem.predict(pipe, feature_axis="variable", out=tmp_path / "labels.zarr")
    found = opened(tmp_path / "labels.zarr").label
    xr.testing.assert_equal(found, data.streamem.predict(pipe, feature_axis="variable"))
    gm = GaussianMixture(2, random_state=0).fit(tmp_path / "x.zarr", feature_axis=0, columns=["cube"])
    gm.predict(tmp_path / "x.zarr", feature_axis=0, out=tmp_path / "own.zarr")
    assert ((opened(tmp_path / "own.zarr").label.values == -1) == LAND).all()
    assert zarr.open_array(tmp_path / "own.zarr" / "label").chunks == (3, 20)


def test_states_of_trajectories_and_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = ocean().rename(lat="trajectory", lon="obs")
    hmm = GaussianHMM(2, random_state=0, tol=1.0).fit(data)
    hmm.decode(data, out="states.zarr")
    assert (opened("states.zarr").state.values == hmm.predict(data).values).all()
    stored(Path("x.zarr"))
    told = CliRunner().invoke(
        main, ["fit", "gmm", "x.zarr", "-k", "2", "--seed", "0", "-o", "m.npz"], catch_exceptions=False
    )
    assert told.exit_code == 0, told.output
    told = CliRunner().invoke(main, ["predict", "m.npz", "x.zarr", "-o", "labels.zarr"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert ((opened("labels.zarr").label.values == -1) == LAND).all()


def test_many_writers_make_what_one_does(gm: GaussianMixture, tmp_path: Path) -> None:
    """Parts begin where chunks begin, and carry no coordinates."""
    path = stored(tmp_path / "x.zarr")
    gm.predict(path, out=tmp_path / "one.zarr")
    source: Any = opened_for(gm, gm._now(), path, DataArguments())[0].source
    labels = opened(tmp_path / "one.zarr").label.values.reshape(-1).astype(np.int32)
    grid = result_grid(source, Column(None, np.dtype(np.int32), ("label",)), "component")
    layout = ResultLayout(120, None, np.dtype(np.int32), ("label",), 30, grid=grid)
    sink = open_parted_sink(tmp_path / "many.zarr", layout)
    parts = sink.parts(50, [0, 40, 80])
    assert [(part.first, part.rows) for part in parts] == [(0, 80), (80, 40)]
    for part in reversed(parts):
        sink.done(part.first, part.write([labels[part.first : part.first + part.rows]]))
    sink.commit()
    xr.testing.assert_identical(opened(tmp_path / "many.zarr"), opened(tmp_path / "one.zarr"))


def test_names_that_are_taken_give_way(tmp_path: Path) -> None:
    data = ocean().rename(lat="component", basin="label").drop_vars("label").assign_coords(label=("lon", np.arange(20)))
    gm = GaussianMixture(2, random_state=0).fit(data)
    gm.predict(data, out=tmp_path / "labels.zarr")
    assert "label_of_model" in opened(tmp_path / "labels.zarr").data_vars
    gm.predict_proba(data, out=tmp_path / "p.zarr")
    assert opened(tmp_path / "p.zarr").probability.dims == ("component", "lon", "component_of_model")


def test_levels_of_an_index_are_coordinates(tmp_path: Path) -> None:
    points = ocean().drop_vars(["basin", "area", "day"]).stack(point=("lat", "lon")).dropna("point")
    gm = GaussianMixture(2, random_state=0).fit(points)
    gm.predict(points, out=tmp_path / "labels.zarr")
    found = opened(tmp_path / "labels.zarr").set_index(point=["lat", "lon"]).label
    assert (found.unstack("point").notnull().values == ~LAND[:5]).all()


def test_arrays_without_named_dimensions_stay_arrays(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "x.zarr")
    for name in "ts":
        group.create_array(name, data=ocean()[name].fillna(0.0).values)
    GaussianMixture(2, random_state=0).fit(tmp_path / "x.zarr").predict(tmp_path / "x.zarr", out=tmp_path / "y.zarr")
    assert zarr.open_array(tmp_path / "y.zarr", mode="r").shape == (120,)
