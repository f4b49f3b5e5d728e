"""Zarr: the values are Zarr's own (and xarray's, where CF packing is declared), and no damage is silent."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from numcodecs import Blosc, GZip, Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from streamem.core.errors import SchemaError, SourceError
from streamem.core.ports import Source
from streamem.sources import zarr_stamp
from streamem.sources.opening import open_source
from streamem.sources.options import ReadOptions
from streamem.sources.zarr import open as open_zarr
from streamem.sources.zarr_direct import DirectReader, direct_reader

FORMATS = {
    "v2": {"zarr_format": 2},
    "v3": {"zarr_format": 3},
    "v3-sharded": {"zarr_format": 3, "shards": True},
}
DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8"]


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> NDArray[Any]:
    """Values that no fill value resembles."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(1, 100, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def store(path: Any, x: NDArray[Any], chunks: tuple[int, ...], **options: Any) -> zarr.Array[Any]:
    """Write an array; `shards` are twice the chunks along the first axis."""
    if options.pop("shards", False):
        options["shards"] = (2 * chunks[0], *chunks[1:])
    where = {"store": path} if not isinstance(path, dict) else path
    array = zarr.create_array(**where, shape=x.shape, dtype=x.dtype, chunks=chunks, **options)
    array[...] = x
    return array


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


def chunk_files(path: Path) -> list[Path]:
    """The files that hold chunks."""
    metadata = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name not in metadata)


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_has_the_values_of_zarr(tmp_path: Path, kind: str, dtype: str) -> None:
    x = numbers((53, 3), dtype)
    store(tmp_path / "a.zarr", x, (5, 2), **FORMATS[kind])
    source = open_zarr(tmp_path / "a.zarr", ReadOptions(chunk_bytes=300, missing_chunks="fill"))
    assert source.schema.dtype == (np.float64 if dtype in ("i4", "u8", "f8") else np.float32)
    assert np.array_equal(rows(source), zarr.open_array(tmp_path / "a.zarr", mode="r")[:])
    assert len(source.chunks()) > 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("shape", "axis"), [((3, 40), 0), ((20, 3, 4), 1), ((20, 4, 3), -1), ((3, 20, 4), 0)])
def test_other_axes_become_rows_in_c_order(tmp_path: Path, kind: str, shape: tuple[int, ...], axis: int) -> None:
    x = numbers(shape, "f4")
    store(tmp_path / "a.zarr", x, tuple(max(1, size // 4) for size in shape), **FORMATS[kind])
    source = open_zarr(tmp_path / "a.zarr", ReadOptions(feature_axis=axis, chunk_bytes=200))
    assert np.array_equal(rows(source), np.moveaxis(x, axis, -1).reshape(-1, 3))
    assert len(source.chunks()) > 1


def test_fortran_order_and_big_endian_numbers_come_out_native_and_in_c_order(tmp_path: Path) -> None:
    x = numbers((30, 4), ">f4")
    store(tmp_path / "a.zarr", x, (7, 4), zarr_format=2, order="F")
    source = open_zarr(tmp_path / "a.zarr", ReadOptions())
    assert rows(source).dtype.isnative
    assert np.array_equal(rows(source), x)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", [(41,), (12, 4), (8, 3, 5)])
def test_a_group_has_one_column_an_array(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    zarr.create_group(tmp_path / "g.zarr", zarr_format=FORMATS[kind]["zarr_format"])
    columns = {"b": numbers(shape, "f4", 1), "a": numbers(shape, "i2", 2), "deep/c": numbers(shape, "u1", 3)}
    weight = numbers(shape, "u1", 4)
    for position, (name, x) in enumerate({**columns, "w": weight}.items()):
        chunks = (2 + position, *shape[1:])
        store({"store": tmp_path / "g.zarr", "name": name}, x, chunks, **FORMATS[kind])
    options = ReadOptions(columns=tuple(columns), weight_column="w", chunk_bytes=200)
    source = open_zarr(tmp_path / "g.zarr", options)
    assert np.array_equal(rows(source), np.stack([x.ravel() for x in columns.values()], axis=1))
    loaded = np.concatenate([ref.load().weight for ref in source.chunks()])  # type: ignore[arg-type, type-var]
    assert np.array_equal(loaded, weight.ravel())
    assert source.schema.names == tuple(columns)
    assert source.schema.weighted
    assert source.schema.dtype == np.float32

    default = open_zarr(tmp_path / "g.zarr", ReadOptions(weight_column="w", columns=None))
    assert default.schema.names == ("a", "b")


def test_a_group_of_unlike_dtypes_is_float64(tmp_path: Path) -> None:
    for name, dtype in (("a", "f4"), ("b", "f8")):
        store({"store": tmp_path / "g.zarr", "name": name}, numbers((9,), dtype), (4,))
    assert open_zarr(tmp_path / "g.zarr", ReadOptions()).schema.dtype == np.float64


def test_the_only_named_array_of_two_axes_is_the_matrix(tmp_path: Path) -> None:
    x, weight = numbers((20, 3)), numbers((20,), "f4", 1)
    store({"store": tmp_path / "g.zarr", "name": "x"}, x, (4, 3))
    store({"store": tmp_path / "g.zarr", "name": "w"}, weight, (5,))
    options = ReadOptions(columns=("x",), weight_column="w")
    source = open_zarr(zarr.open_group(tmp_path / "g.zarr", mode="r"), options)
    assert np.array_equal(rows(source), x)
    assert np.array_equal(source.chunks()[0].load().weight, weight)  # type: ignore[arg-type]
    assert np.array_equal(rows(open_zarr(tmp_path / "g.zarr" / "x", ReadOptions())), x)


def test_stores_in_memory_and_in_zip_files(tmp_path: Path) -> None:
    x = numbers((20, 3))
    array = store(zarr.storage.MemoryStore(), x, (4, 3))
    assert np.array_equal(rows(open_zarr(array, ReadOptions())), x)
    path = tmp_path / "a.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as zipped:
        store(zipped, x, (4, 3))
    with zarr.storage.ZipStore(path, mode="r") as zipped:
        source = open_zarr(zarr.open_array(zipped, mode="r"), ReadOptions())
        assert np.array_equal(rows(source), x)
        assert source.fingerprint() == source.fingerprint()
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "b.zip", "w") as partial:
        for name in whole.namelist():
            if not name.endswith("c/2/0"):
                partial.writestr(name, whole.read(name))
    with zarr.storage.ZipStore(tmp_path / "b.zip", mode="r") as zipped:
        array = zarr.open_array(zipped, mode="r")
        with pytest.raises(SourceError, match=r"1 of 5 stored chunks are missing \(the first: 'c/2/0'\)"):
            open_zarr(array, ReadOptions())


def test_no_rows_are_no_chunks(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(0, 3), dtype="f8", chunks=(5, 3))
    source = open_zarr(tmp_path / "a.zarr", ReadOptions())
    assert source.n_rows == 0
    assert len(source.chunks()) == 0


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "unit"), [("v2", 5), ("v3", 5), ("v3-sharded", 10)])
def test_cuts_are_whole_storage_units(tmp_path: Path, kind: str, unit: int) -> None:
    store(tmp_path / "a.zarr", numbers((53, 2)), (5, 2), **FORMATS[kind])
    row_nbytes = 16
    alone = 5  # inner chunks, of shards that are more than twice as large as a chunk
    for chunk_bytes, positions in ((1, alone), (25 * row_nbytes, 25 // unit * unit), (10**6, 60)):
        refs = open_zarr(tmp_path / "a.zarr", ReadOptions(chunk_bytes=chunk_bytes)).chunks()
        assert [ref.start for ref in refs] == list(range(0, 53, positions))


def test_the_plan_depends_on_metadata_and_budget_only(tmp_path: Path) -> None:
    plans = []
    for seed in range(2):
        path = tmp_path / f"{seed}.zarr"
        store(path, numbers((50, 2), seed=seed), (5, 2))
        source = open_source(path, options=ReadOptions(chunk_bytes=200))
        plans.append([(ref.index, ref.start, ref.rows, ref.nbytes, ref.load_nbytes) for ref in source.chunks()])
    assert plans[0] == plans[1]


def test_columns_are_cut_along_the_longest_chunk(tmp_path: Path) -> None:
    for name, chunk in (("a", 4), ("b", 8), ("c", 2)):
        store({"store": tmp_path / "g.zarr", "name": name}, numbers((30,)), (chunk,))
    refs = open_zarr(tmp_path / "g.zarr", ReadOptions(chunk_bytes=1)).chunks()
    assert [ref.start for ref in refs] == [0, 8, 16, 24]


def test_a_plain_matrix_is_returned_as_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "a.zarr", numbers((20, 3), "f4"), (20, 3))
    ref = open_zarr(tmp_path / "a.zarr", ReadOptions()).chunks()[0]
    read: list[NDArray[Any]] = []
    original = DirectReader.read

    def spy(self: DirectReader, axis: int, positions: slice) -> NDArray[Any]:
        read.append(original(self, axis, positions))
        return read[-1]

    monkeypatch.setattr(DirectReader, "read", spy)
    assert np.shares_memory(ref.load().x, read[0])


STORED_AS: list[dict[str, Any]] = [
    {},
    {"compressors": None},
    {"compressors": ZstdCodec(level=3, checksum=True)},
    {"compressors": BloscCodec(cname="lz4")},
    {"zarr_format": 2},
    {"zarr_format": 2, "compressors": None},
    {"zarr_format": 2, "compressors": Blosc()},
]


@pytest.mark.parametrize("codec", range(len(STORED_AS)))
@pytest.mark.parametrize("axis", [0, 1])
def test_direct_reading_gives_what_zarr_gives(tmp_path: Path, codec: int, axis: int) -> None:
    values = numbers((23, 7), "f4")
    array = zarr.create_array(
        store=str(tmp_path / "a.zarr"),
        shape=values.shape,
        chunks=(5, 3),
        dtype="f4",
        fill_value=-1.0,
        **STORED_AS[codec],
    )
    array[:20] = values[:20]  # the last chunks are absent
    reader = direct_reader(zarr.open_array(str(tmp_path / "a.zarr"), mode="r"), refuse_absent=False)
    assert reader is not None
    for first, stop in ((0, 5), (5, 20), (3, 17), (20, 23), (6, 7)) if axis == 0 else ((0, 7), (3, 6), (2, 5)):
        selection = (slice(None),) * axis + (slice(first, stop),)
        np.testing.assert_array_equal(reader.read(axis, slice(first, stop)), array[selection])


@pytest.mark.parametrize("codec", range(len(STORED_AS)))
@pytest.mark.parametrize("axis", [0, 1])
def test_what_was_fetched_is_decoded_without_its_files(tmp_path: Path, codec: int, axis: int) -> None:
    values = numbers((23, 7), "f4")
    array = zarr.create_array(
        store=str(tmp_path / "a.zarr"), shape=values.shape, chunks=(5, 3), dtype="f4", **STORED_AS[codec]
    )
    array[:] = values
    np.save(tmp_path / "w.npy", np.arange(23.0 if axis else 7.0))
    options = ReadOptions(chunk_bytes=1, feature_axis=axis)
    refs = open_source(tmp_path / "a.zarr", weight=np.load(tmp_path / "w.npy"), options=options).chunks()
    before, fetched = [ref.load() for ref in refs], [ref.fetched() for ref in refs]
    for file in chunk_files(tmp_path / "a.zarr"):
        file.unlink()
    for ref, chunk in zip(fetched, before, strict=True):
        np.testing.assert_array_equal(ref.load().x, chunk.x)
        np.testing.assert_array_equal(ref.load().weight, chunk.weight)
        assert ref.load_nbytes == refs[ref.index].load_nbytes
    with pytest.raises(SourceError, match="missing"):
        refs[0].fetched().load()


def test_many_small_units_that_are_fetched_together_are_projected(tmp_path: Path) -> None:
    """All of them compressed, the rows, and one that is decoded."""
    store(tmp_path / "a.zarr", numbers((1000, 2)), (10, 2), compressors=None)
    (ref,) = open_zarr(tmp_path / "a.zarr", ReadOptions()).chunks()
    held = sum(len(stored) for stored in ref.fetched().layout.variable.direct.fetched.values())
    assert held == ref.nbytes == 16_000
    assert ref.load_nbytes >= ref.nbytes + held + 160


def test_columns_and_shards_are_not_fetched(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", numbers((20, 6)), (5, 6), shards=True)
    group = zarr.create_group(store=str(tmp_path / "g.zarr"))
    for name in "ab":
        group.create_array(name, data=numbers((20,)))
    for path in ("a.zarr", "g.zarr"):
        for ref in open_zarr(tmp_path / path, ReadOptions()).chunks():
            assert ref.fetched() is ref


@pytest.mark.parametrize(
    "settings",
    [
        {"shards": (10, 6)},
        {"filters": [TransposeCodec(order=(1, 0))]},
        {"serializer": BytesCodec(endian="big")},
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"zarr_format": 2, "order": "F"},
        {"dtype": ">f4", "zarr_format": 2},
    ],
)
def test_unusual_arrays_are_left_to_zarr(tmp_path: Path, settings: dict[str, Any]) -> None:
    values = numbers((20, 6), "f4")
    chosen = {"dtype": "f4", "shape": values.shape, "chunks": (5, 3), **settings}
    array = zarr.create_array(store=str(tmp_path / "a.zarr"), **chosen)
    array[:] = values
    assert direct_reader(array, refuse_absent=True) is None
    np.testing.assert_array_equal(open_zarr(tmp_path / "a.zarr", ReadOptions()).chunks()[0].load().x, values)


@pytest.mark.parametrize("damage", ["shorter", "longer"])
def test_a_chunk_of_another_size_is_refused(tmp_path: Path, damage: str) -> None:
    values = numbers((20, 3), "f4")
    store(tmp_path / "a.zarr", values, (10, 3))
    other = Zstd().encode(values[: 5 if damage == "shorter" else 15].tobytes())
    (tmp_path / "a.zarr" / "c" / "1" / "0").write_bytes(other)
    refs = open_zarr(tmp_path / "a.zarr", ReadOptions(chunk_bytes=1)).chunks()
    refs[0].load()
    with pytest.raises(SourceError, match=r"chunk 'c/1/0' is truncated or corrupt: it holds (60|180) of 120 bytes"):
        refs[1].load()


# --- what xarray writes ----------------------------------------------------------------------------------------------


def packed_dataset() -> xarray.Dataset:
    """Variables in every packing, with values that are missing."""
    rng = np.random.default_rng(5)
    values = rng.normal(10, 3, size=(12, 4))
    values[rng.random(values.shape) < 0.2] = np.nan
    dims = ("time", "cell")
    data = dict.fromkeys(("scaled", "offset", "filled", "plain", "short", "unsigned"), (dims, values))
    dataset = xarray.Dataset(data, {"time": np.arange(12), "lat": ("cell", np.linspace(0, 9, 4))})
    dataset["plain"] = dataset["plain"].astype("f4")
    dataset["count"] = (dims, rng.integers(0, 9, (12, 4)).astype("i2"))
    dataset["flag"] = (dims, rng.random((12, 4)) < 0.5)
    dataset["when"] = (dims, np.datetime64("2020-01-01", "ns") + rng.integers(1, 9, (12, 4)))
    dataset["crs"] = ((), 4326)
    return dataset


ENCODING: dict[str, dict[str, Any]] = {
    "scaled": {"dtype": "i2", "scale_factor": 0.01, "add_offset": 12.5, "_FillValue": -32768},
    "offset": {"dtype": "i4", "add_offset": 3.0, "missing_value": -999, "_FillValue": -999},
    "filled": {"dtype": "f4", "_FillValue": 1e20},
    "short": {"dtype": "i2", "_FillValue": -1},
    "unsigned": {"dtype": "i1", "_Unsigned": "true", "_FillValue": -1, "scale_factor": 0.1},
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:.*does not have a Zarr V3 specification")
def test_packed_variables_have_the_values_that_xarray_shows(tmp_path: Path, zarr_format: int) -> None:
    encoding = {name: {**item, "chunks": (5, 4)} for name, item in ENCODING.items()}
    path = tmp_path / "p.zarr"
    packed_dataset().to_zarr(path, encoding=encoding, zarr_format=zarr_format)
    with xarray.open_zarr(path, chunks=None) as shown:
        for name in ("scaled", "offset", "filled", "plain", "short", "unsigned", "count", "flag"):
            source = open_zarr(path / name, ReadOptions(chunk_bytes=100, missing_chunks="fill"))
            assert np.array_equal(rows(source), shown[name].values.astype("f8"), equal_nan=True), name
        assert np.isnan(shown["scaled"].values).any()
    source = open_zarr(path, ReadOptions(missing_chunks="fill"))
    assert source.schema.names == (
        "count",
        "filled",
        "flag",
        "offset",
        "plain",
        "scaled",
        "short",
        "unsigned",
    )
    assert source.n_rows == 48


def test_the_fill_value_of_plain_zarr_2_is_an_ordinary_value(tmp_path: Path) -> None:
    x = np.array([[0.0, 1.0], [2.0, 0.0]])
    store(tmp_path / "a.zarr", x, (1, 2), zarr_format=2, fill_value=0.0)
    assert np.array_equal(rows(open_zarr(tmp_path / "a.zarr", ReadOptions())), x)


@pytest.mark.parametrize("fill", [1e20, "1e20", [1e20, -9.0], "NaN"])
def test_missing_values_match_after_rounding_to_the_stored_dtype(tmp_path: Path, fill: Any) -> None:
    x = np.array([[1e20, 1.0], [2.0, -9.0]], "f4")
    array = store(tmp_path / "a.zarr", x, (1, 2))
    array.attrs["missing_value"] = fill
    expected = x.copy()
    expected[0, 0] = x[0, 0] if fill == "NaN" else np.nan
    expected[1, 1] = np.nan if isinstance(fill, list) else x[1, 1]
    assert np.array_equal(rows(open_zarr(tmp_path / "a.zarr", ReadOptions())), expected, equal_nan=True)


def test_an_attribute_that_is_no_number_is_named(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", numbers((4, 2)), (2, 2))
    array.attrs["scale_factor"] = {"value": 2}
    with pytest.raises(SourceError, match=r"a\.zarr: the attribute scale_factor is .*correct the attribute"):
        open_zarr(tmp_path / "a.zarr", ReadOptions())


# --- what cannot be read ---------------------------------------------------------------------------------------------


def message(error: type[Exception], data: Any, **options: Any) -> str:
    """What opening and reading says."""
    with pytest.raises(error) as caught:
        rows(open_zarr(data, ReadOptions(**options)))
    return str(caught.value)


def test_one_axis_needs_a_remedy(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", numbers((4,)), (2,))
    said = message(SchemaError, tmp_path / "a.zarr")
    assert "has shape (4,); rows are needed as (n, d). Store one feature as (n, 1)" in said


@pytest.mark.parametrize("axis", [None, 3, "depth"])
def test_three_axes_need_a_feature_axis(tmp_path: Path, axis: Any) -> None:
    store(tmp_path / "a.zarr", numbers((4, 3, 2)), (2, 3, 2), dimension_names=("t", "y", "x"))
    said = message(SchemaError, tmp_path / "a.zarr", feature_axis=axis)
    assert f"dimensions ['t', 'y', 'x'], and feature_axis is {axis!r}. Pass feature_axis= (0 … 2)" in said
    assert open_zarr(tmp_path / "a.zarr", ReadOptions(feature_axis="y")).schema.n_features == 3


@pytest.mark.parametrize("dtype", ["c16", "M8[s]"])
@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
def test_values_that_are_no_numbers(tmp_path: Path, dtype: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 2), dtype=dtype, chunks=(2, 2), zarr_format=2)
    assert "a.zarr holds" in (said := message(SchemaError, tmp_path / "a.zarr"))
    assert "which is not numeric; bool, integers and floats can be used" in said


def test_columns_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "g.zarr"
    for name, x in {"a": numbers((4,)), "b": numbers((5,)), "sub/c": numbers((4,))}.items():
        store({"store": path, "name": name}, x, (2,))
    assert "has no array 'z'; it holds a, b, sub" in message(SchemaError, path, columns=("z",))
    assert "'sub' is a group, not an array; it holds sub/c" in message(SchemaError, path, columns=("sub",))
    said = message(SchemaError, path)
    assert "these do not: a (4,), b (5,). Pass columns=" in said
    assert "(rows) (4,), b (5,)" in message(SchemaError, path, columns=("a",), weight_column="b")
    said = message(SchemaError, path, columns=("a", "sub/c"), feature_axis=0)
    assert "feature_axis=0 fits one array, not the columns ['a', 'sub/c']" in said
    said = message(SchemaError, path / "a", columns=("x",), weight_column="w")
    assert "has no columns, so ['x', 'w'] cannot be chosen; open the group" in said
    zarr.create_group(tmp_path / "empty.zarr")
    said = message(SchemaError, tmp_path / "empty.zarr")
    assert "has no numeric array that is not a coordinate; it holds nothing" in said


def test_columns_with_dimensions_in_another_order_are_refused(tmp_path: Path) -> None:
    for name, dims in (("a", ("x", "y")), ("b", ("y", "x"))):
        target = {"store": tmp_path / "g.zarr", "name": name}
        store(target, numbers((4, 4)), (2, 4), dimension_names=dims)
    said = message(SchemaError, tmp_path / "g.zarr")
    assert "the dimensions of the columns differ: a ('x', 'y'), b ('y', 'x')" in said


def test_folders_that_are_not_zarr(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / "readme.txt").write_text("not Zarr")
    said = message(SourceError, folder)
    assert f"{folder} cannot be opened as Zarr: " in said
    assert "It is a folder holding readme.txt; an array or a group with zarr.json" in said
    (folder / "zarr.json").write_text('{"half": ')
    assert "JSONDecodeError" in message(SourceError, folder)
    assert "a file of 8 bytes" in message(SourceError, folder / "readme.txt")
    assert "int is no Zarr array or group" in message(SourceError, 3)


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "stored"), [("v2", 11), ("v3", 11), ("v3-sharded", 6)])
def test_missing_chunks_are_refused_when_opening(tmp_path: Path, kind: str, stored: int) -> None:
    path = tmp_path / "a.zarr"
    x = numbers((53, 2))
    store(path, x, (5, 2), **FORMATS[kind])
    keys = {"v2": ("3.0", "7.0"), "v3": ("c/3/0", "c/7/0"), "v3-sharded": ("c/1/0", "c/5/0")}[kind]
    for key in keys:
        (path / key).unlink()
    said = message(SourceError, path)
    assert f"{path}: 2 of {stored} stored chunks are missing (the first: {keys[0]!r})" in said
    assert "fill value 0.0. Restore them, or" in said
    assert 'open_source(path, options=ReadOptions(missing_chunks="fill"))' in said
    filled = rows(open_zarr(path, ReadOptions(missing_chunks="fill")))
    assert np.array_equal(filled, zarr.open_array(path, mode="r")[:])
    assert not np.array_equal(filled, x)


def test_missing_chunks_in_memory_are_refused(tmp_path: Path) -> None:
    memory = zarr.storage.MemoryStore()
    array = store({"store": memory, "name": "deep/a"}, numbers((20, 2)), (5, 2))
    del memory._store_dict["deep/a/c/2/0"]
    assert "1 of 4 stored chunks are missing (the first: 'c/2/0')" in message(SourceError, array)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_chunk_that_vanishes_between_passes_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    store(path, numbers((53, 2)), (5, 2), **FORMATS[kind])
    source = open_zarr(path, ReadOptions(chunk_bytes=1))
    refs, before = source.chunks(), source.fingerprint()
    for victim in (0, -1):
        chunk_files(path)[victim].unlink()
    with pytest.raises(SourceError, match=r"a\.zarr: rows 0–\d+ cannot be read: stored chunk .* is missing"):
        refs[0].load()
    assert source.fingerprint() != before


CODECS = {
    "v2-none": {"zarr_format": 2, "compressors": None},
    "v2-blosc": {"zarr_format": 2, "compressors": Blosc()},
    "v2-zstd": {"zarr_format": 2, "compressors": Zstd()},
    "v2-gzip": {"zarr_format": 2, "compressors": GZip()},
    "v3-none": {"zarr_format": 3, "compressors": None},
    "v3-blosc": {"zarr_format": 3, "compressors": zarr.codecs.BloscCodec()},
    "v3-zstd": {"zarr_format": 3, "compressors": zarr.codecs.ZstdCodec()},
    "v3-gzip": {"zarr_format": 3, "compressors": zarr.codecs.GzipCodec()},
    "v3-sharded": {"zarr_format": 3, "shards": True},
}


@pytest.mark.parametrize("kept", [0, 0.5, -1])
@pytest.mark.parametrize("codec", CODECS)
def test_truncated_chunks_are_errors(tmp_path: Path, codec: str, kept: float) -> None:
    path = tmp_path / "a.zarr"
    store(path, numbers((200, 4)), (50, 4), **CODECS[codec])
    refs = open_zarr(path, ReadOptions(chunk_bytes=1)).chunks()
    file = chunk_files(path)[1]
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] if kept == -1 else raw[: int(kept * len(raw))])
    refs[0].load()
    start, stop = (100, 149) if codec == "v3-sharded" else (50, 99)
    with pytest.raises(SourceError) as caught:
        next(ref for ref in refs if ref.start == start).load()
    assert f"Zarr array {path}: rows {start}–{stop} cannot be read: " in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("codec", [name for name in CODECS if not name.endswith("none")])
def test_garbage_is_an_error_wherever_there_is_a_codec(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.zarr"
    store(path, numbers((200, 4)), (50, 4), **CODECS[codec])
    file = chunk_files(path)[0]
    file.write_bytes(np.random.default_rng(3).bytes(file.stat().st_size))
    said = message(SourceError, path, chunk_bytes=1)
    assert "rows 0–" in said
    assert "restore the chunk or write the array again" in said
    if "zstd" in codec or "blosc" in codec:  # read directly: which of the files of these rows
        assert re.search(r"stored chunk '(0\.0|c/0/0)' is truncated", said)


# --- change ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_the_fingerprint_notices_change_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    store(path, numbers((53, 2)), (5, 2), **FORMATS[kind])
    source = open_zarr(path, ReadOptions())
    before = source.fingerprint()
    rows(source)
    assert source.fingerprint() == before == open_zarr(path, ReadOptions(chunk_bytes=1)).fingerprint()
    file = chunk_files(path)[2]
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    after = source.fingerprint()
    assert after != before
    file.write_bytes(file.read_bytes() + b"\0")
    assert source.fingerprint() not in (before, after)


def test_the_fingerprint_notices_an_appended_array(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", numbers((20, 2)), (5, 2))
    source = open_zarr(tmp_path / "a.zarr", ReadOptions())
    before = source.fingerprint()
    array.append(numbers((5, 2)))
    assert source.fingerprint() != before


def test_the_fingerprint_samples_where_there_are_very_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_stamp, "STAMPED_FILES", 4)
    path = tmp_path / "a.zarr"
    array = store(path, numbers((50, 2)), (5, 2))
    source = open_zarr(path, ReadOptions())
    before = source.fingerprint()
    shutil.copystat(path / "zarr.json", path / "c" / "1" / "0")
    assert source.fingerprint() == before
    array[...] = numbers((50, 2), seed=1)
    assert source.fingerprint() != before


def test_the_fingerprint_of_memory_is_of_content() -> None:
    array = store(zarr.storage.MemoryStore(), numbers((20, 2)), (5, 2))
    same = store(zarr.storage.MemoryStore(), numbers((20, 2)), (5, 2))
    source = open_zarr(array, ReadOptions())
    before = source.fingerprint()
    assert before == open_zarr(same, ReadOptions()).fingerprint()
    array[7, 1] = 3.5
    assert source.fingerprint() != before
