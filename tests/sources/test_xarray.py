"""xarray: the values are xarray's own, whatever lies behind it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import Source
from streamem.sources.opening import open_source
from streamem.sources.options import ReadOptions
from streamem.sources.xarray import XarraySource
from streamem.sources.xarray import open as open_xarray

BACKINGS = ["numpy", "zarr-2", "zarr-3", "zarr-3-sharded", "dask"]


def dataset(seed: int = 0) -> xarray.Dataset:
    """Three variables on (time, lat), in several dtypes and one in another order, with coordinates."""
    rng = np.random.default_rng(seed)
    b = rng.integers(0, 99, (3, 20)).astype("i2")
    return xarray.Dataset(
        {
            "a": (("time", "lat"), rng.normal(size=(20, 3)).astype("f4")),
            "b": (("lat", "time"), b),
            "c": (("time", "lat"), rng.normal(size=(20, 3)).astype("f2")),
            "crs": ((), 4326),
        },
        {"time": np.arange(20), "lat": [10.0, 20.0, 30.0], "area": ("lat", [0.5, 1.0, 2.0])},
    )


def backed(data: xarray.Dataset, backing: str, folder: Path) -> xarray.Dataset:
    """The same data, with something else behind it."""
    if backing == "numpy":
        return data
    if backing == "dask":
        return data.chunk(time=6)
    kind, _, sharded = backing.removeprefix("zarr-").partition("-")
    encoding: dict[str, dict[str, Any]] = {name: {"chunks": (3, 3)} for name in "abc"}
    if sharded:
        encoding["a"]["shards"] = (6, 3)
    path = folder / f"{backing}.zarr"
    data.to_zarr(path, encoding=encoding, zarr_format=int(kind), consolidated=False)
    return xarray.open_zarr(path, chunks=None, consolidated=False)[list(data.data_vars)]


def rows(source: Source) -> NDArray[Any]:
    """All rows, with the laws of a plan checked on the way."""
    refs = source.chunks()
    assert [ref.index for ref in refs] == list(range(len(refs)))
    assert [ref.start for ref in refs] == np.cumsum([0, *(ref.rows for ref in refs)])[:-1].tolist()
    loaded = [pickle.loads(pickle.dumps(ref)).load() for ref in refs]
    for ref, chunk in zip(refs, loaded, strict=True):
        assert chunk.x.flags.c_contiguous
        assert chunk.x.dtype == source.schema.dtype
        assert chunk.x.shape == (ref.rows, source.schema.n_features)
        weights = 0 if chunk.weight is None else chunk.weight.nbytes
        assert ref.nbytes == chunk.x.nbytes + weights <= ref.load_nbytes
    assert sum(ref.rows for ref in refs) == source.n_rows
    return np.concatenate([chunk.x for chunk in loaded])


def weights(source: Source) -> NDArray[Any]:
    """All weights."""
    return np.concatenate([ref.load().weight for ref in source.chunks()])  # type: ignore[arg-type, type-var]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_dataset_has_one_column_a_variable(tmp_path: Path, backing: str) -> None:
    data = backed(dataset(), backing, tmp_path)
    source = open_xarray(data, ReadOptions(columns=("b", "a", "c"), chunk_bytes=150))
    expected = np.stack([data[name].transpose("lat", "time").values.ravel() for name in "bac"], axis=1)
    assert np.array_equal(rows(source), expected)
    assert source.schema.names == ("b", "a", "c")
    assert source.schema.dtype == np.float32
    assert len(source.chunks()) == (3 if backing == "numpy" else 1)


@pytest.mark.parametrize("backing", BACKINGS)
def test_by_default_columns_are_the_numeric_data_variables(tmp_path: Path, backing: str) -> None:
    data = backed(dataset(), backing, tmp_path).assign(when=("time", np.array(["2020-01-01"] * 20, "M8[ns]")))
    source = open_source(data, weight="area", options=ReadOptions(chunk_bytes=1))
    expected = np.stack([data[name].transpose("time", "lat").values.ravel() for name in "abc"], axis=1)
    assert np.array_equal(rows(source), expected)
    assert np.array_equal(weights(source), np.tile([0.5, 1.0, 2.0], 20))
    step = {"numpy": 1, "dask": 6, "zarr-3-sharded": 6}.get(backing, 3)
    assert [ref.start for ref in source.chunks()] == list(range(0, 60, 3 * step))


@pytest.mark.parametrize("axis", ["band", 1, -2])
@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "f2", ">f4", "f8"])
def test_a_data_array_has_its_features_on_one_dimension(axis: int | str, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, (8, 3, 4)).astype(dtype)
    array = xarray.DataArray(x, dims=("y", "band", "x"))
    source = open_xarray(array, ReadOptions(feature_axis=axis, chunk_bytes=100))
    assert np.array_equal(rows(source), np.moveaxis(x, 1, -1).reshape(-1, 3))
    assert source.schema.names is None


def test_the_last_of_two_dimensions_is_the_default() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))
    labelled = xarray.DataArray(x, dims=("n", "d"), coords={"d": ["u", "v", "w"], "w": ("n", np.arange(8))})
    source = open_xarray(labelled, ReadOptions())
    assert source.schema.names == ("u", "v", "w")
    assert np.array_equal(rows(source), x)
    chosen = open_xarray(labelled, ReadOptions(columns=("w", "u"), weight_column="w"))
    assert np.array_equal(rows(chosen), x[:, [2, 0]])
    assert np.array_equal(weights(chosen), np.arange(8))
    assert chosen.schema.names == ("w", "u")


def test_a_matrix_that_is_right_already_is_not_copied() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))
    ref = open_xarray(xarray.DataArray(x, dims=("n", "d")), ReadOptions()).chunks()[0]
    assert np.shares_memory(ref.load().x, x)


@pytest.mark.parametrize("backing", ["zarr-2", "zarr-3", "zarr-3-sharded"])
def test_lazy_data_stay_lazy(tmp_path: Path, backing: str) -> None:
    data = backed(dataset(), backing, tmp_path)
    source = open_xarray(data, ReadOptions(chunk_bytes=1))
    source.fingerprint()
    source.chunks()[0].load()
    assert not any(data[name].variable._in_memory for name in "abc")


def test_one_variable_of_a_dataset_as_a_matrix() -> None:
    data = dataset()
    options = ReadOptions(columns=("b",), feature_axis="lat", weight_column="time")
    source = open_xarray(data, options)
    assert np.array_equal(rows(source), data["b"].values.T)
    assert np.array_equal(weights(source), np.arange(20))


def test_no_rows_are_no_chunks() -> None:
    source = open_xarray(xarray.DataArray(np.empty((0, 3)), dims=("n", "d")), ReadOptions())
    assert source.n_rows == 0
    assert len(source.chunks()) == 0
    assert source.fingerprint()


def test_the_plan_depends_on_metadata_and_budget_only() -> None:
    plans = [
        [(r.index, r.start, r.rows, r.nbytes, r.load_nbytes) for r in open_xarray(dataset(seed), options).chunks()]
        for seed in range(2)
        for options in [ReadOptions(chunk_bytes=200)]
    ]
    assert plans[0] == plans[1]
    assert len(plans[0]) == 4


# --- change and damage -----------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_dimensions_names_dtypes_and_values() -> None:
    data = dataset()
    before = open_xarray(data, ReadOptions()).fingerprint()
    assert before == open_xarray(dataset(), ReadOptions(chunk_bytes=9)).fingerprint()
    changed = data.copy(deep=True)
    changed["a"].values[7, 1] += 1
    others = [
        changed,
        data.rename(lat="latitude"),
        data.rename(a="z"),
        data.astype("f8"),
        data.isel(time=slice(19)),
    ]
    found = [open_xarray(other, ReadOptions()).fingerprint() for other in others]
    assert len({before, *found}) == 6
    weighted = open_xarray(data, ReadOptions(weight_column="area")).fingerprint()
    assert weighted != before


def test_a_chunk_that_cannot_be_read_names_the_rows(tmp_path: Path) -> None:
    data = backed(dataset(), "zarr-3", tmp_path)
    source = open_xarray(data, ReadOptions(chunk_bytes=1))
    (tmp_path / "zarr-3.zarr" / "a" / "c" / "1" / "0").write_bytes(b"garbage")
    source.chunks()[0].load()
    with pytest.raises(SourceError, match=r"the Dataset: rows 9–17 cannot be read: .*check the file or store"):
        source.chunks()[1].load()


# --- what cannot be read ---------------------------------------------------------------------------------------------


def message(data: Any, **options: Any) -> str:
    """What opening says."""
    with pytest.raises(SchemaError) as caught:
        open_xarray(data, ReadOptions(**options))
    return str(caught.value)


def test_columns_that_cannot_be() -> None:
    data = dataset()
    assert "no variable 'z'; it holds a, b, c, crs" in message(data, columns=("z",))
    assert "no variable 'z'" in message(data, weight_column="z")
    said = message(data.assign(short=("time", np.ones(20))))
    assert "these do not: a {'time': 20, 'lat': 3}, b {'lat': 3, 'time': 20}, c" in said
    assert "short {'time': 20}. Pass columns= with the names" in said
    assert "these do not: crs {}" in message(data, columns=("crs",))
    assert "none of its variables has the dimension feature_axis='level'" in message(data, feature_axis="level")
    said = message(data[["a"]].isel(lat=0).assign(w=dataset()["a"]), columns=("a",), weight_column="w")
    assert "weights 'w' have dimensions {'time': 20, 'lat': 3}; rows have {'time': 20}" in said
    assert "no numeric data variable; it holds name" in message(xarray.Dataset({"name": ("n", ["a", "b"])}))
    assert "which is not numeric" in message(xarray.Dataset({"name": ("n", ["a", "b"])}), columns=("name",))


@pytest.mark.parametrize("axis", [None, "z", 3])
def test_the_feature_dimension_must_be_known(axis: Any) -> None:
    cube = xarray.DataArray(np.ones((2, 3, 4)), dims=("t", "y", "x"), name="cube")
    said = message(cube, feature_axis=axis)
    assert f"DataArray cube has dimensions {{'t': 2, 'y': 3, 'x': 4}}, and feature_axis is {axis!r}; pass" in said
    assert "pass a Dataset of one variable a feature" in message(cube[0, 0], feature_axis=axis)


def test_labels_that_are_not_there() -> None:
    x = xarray.DataArray(np.ones((2, 2)), dims=("n", "d"), coords={"d": ["u", "v"]})
    assert "columns ['z'] are not all on dimension 'd', which has u, v" in message(x, columns=("z",))
    assert "which has no labels" in message(x.drop_vars("d"), columns=("z",))


def test_other_objects_of_xarray_get_a_remedy() -> None:
    assert "DataTree holds no rows" in message(xarray.DataTree(dataset()))


def test_dask_arrays_with_labels_or_weights_are_read_here() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    array = xarray.DataArray(x, dims=("n", "d"), coords={"d": ["u", "v"]}).chunk(n=7)
    source = open_xarray(array, ReadOptions(chunk_bytes=1))
    assert isinstance(source, XarraySource)
    assert np.array_equal(rows(source), x)
    assert [ref.start for ref in source.chunks()] == [0, 7, 14]


@pytest.mark.parametrize("axis", [None, "n"])
def test_plain_dask_arrays_are_handed_to_the_dask_source(axis: str | None) -> None:
    x = np.random.default_rng(0).normal(size=(20, 6))
    array = xarray.DataArray(x, dims=("n", "d")).chunk(n=7)
    source = open_xarray(array, ReadOptions(feature_axis=axis))
    assert not isinstance(source, XarraySource)
    expected = x if axis is None else x.T
    assert np.array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), expected)
