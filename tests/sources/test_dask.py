"""Dask arrays and DataFrames give what Dask computes, block by block, with every fault named."""

from __future__ import annotations

import pickle
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client

from streamem.core.errors import ParameterError, SchemaError, SourceError
from streamem.core.ports import Source
from streamem.sources import ReadOptions, open_source
from streamem.sources.dask import open as open_dask


def read(source: Source) -> np.ndarray:
    return np.concatenate([ref.load().x for ref in source.chunks()])


def weights(source: Source) -> np.ndarray:
    return np.concatenate([ref.load().weight for ref in source.chunks()])


def check_plan(source: Source) -> None:
    start = 0
    for index, ref in enumerate(source.chunks()):
        chunk = ref.load()
        assert (ref.index, ref.start, ref.rows) == (index, start, chunk.rows)
        assert ref.nbytes == chunk.x.nbytes + (0 if chunk.weight is None else chunk.weight.nbytes)
        assert ref.load_nbytes >= ref.nbytes
        assert chunk.x.flags.c_contiguous
        assert chunk.x.dtype == source.schema.dtype
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(ref)).load().x, chunk.x)
        start += ref.rows
    assert start == source.n_rows


def normal(rows: int = 100, features: int = 4, chunks: Any = (7, 4)) -> da.Array:
    values = np.random.default_rng(0).normal(size=(rows, features))
    return da.from_array(values, chunks=chunks)


ARRAYS = {
    "as it is": lambda x: x,
    "chained": lambda x: (x * 2 + 1)[10:90][::3],
    "several feature chunks": lambda x: x.rechunk((7, 1)),
    "one chunk": lambda x: x.rechunk(-1),
    "overlapping": lambda x: x.map_overlap(np.cumsum, depth={0: 2}, boundary="none", axis=0, dtype=x.dtype),
    "mean taken off": lambda x: (x - x.mean(axis=0)) / x.std(axis=0),
    "random": lambda x: x + da.random.default_rng(5).normal(size=x.shape, chunks=x.chunks),
    "concatenated": lambda x: da.concatenate([x, x[:5]]),
    "stacked": lambda x: da.stack([x[:, 0], x[:, 1]], axis=1),
    "float32": lambda x: x.astype(np.float32),
    "int32": lambda x: (x * 100).astype(np.int32),
    "bool": lambda x: x > 0,
    "delayed": lambda x: da.from_delayed(dask.delayed(np.ones)((30, 2)), (30, 2), float),
}


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 10**6])
def test_array_values_and_plan(case: str, chunk_bytes: int) -> None:
    data = ARRAYS[case](normal())
    source = open_source(data, options=ReadOptions(chunk_bytes=chunk_bytes))
    check_plan(source)
    np.testing.assert_array_equal(read(source), data.compute(scheduler="synchronous"))


@pytest.mark.parametrize("axis", [0, -2])
def test_features_first(axis: int) -> None:
    data = normal().T
    np.testing.assert_array_equal(read(open_source(data, options=ReadOptions(feature_axis=axis))), data.T.compute())


@pytest.mark.parametrize("chunks", [(2, 5, 1, 3), (2, 2, 2, 3), (6, 5, 1, 1)])
def test_more_axes(chunks: tuple[int, ...]) -> None:
    values = np.arange(180.0).reshape(6, 5, 2, 3)
    source = open_source(da.from_array(values, chunks=chunks), options=ReadOptions(feature_axis=1))
    np.testing.assert_array_equal(read(source), np.moveaxis(values, 1, -1).reshape(-1, 5))


def test_masked_values_become_nan() -> None:
    data = da.ma.masked_greater(da.from_array(np.arange(12).reshape(6, 2), chunks=(2, 2)), 8)
    np.testing.assert_array_equal(read(open_source(data))[-2:], [[8, np.nan], [np.nan, np.nan]])


def test_joined_feature_chunks_are_told() -> None:
    assert "4 chunks along the features joined" in open_source(normal(chunks=(7, 1))).schema.origin


def test_unknown_lengths_are_counted() -> None:
    data = normal()
    data = data[data[:, 0] > 0]
    source = open_source(data, options=ReadOptions(chunk_bytes=1))
    check_plan(source)
    np.testing.assert_array_equal(read(source), data.compute())


def test_zero_rows() -> None:
    source = open_source(normal()[:0])
    assert source.n_rows == 0
    assert list(source.chunks()) == []


ARRAY_REFUSALS = {
    "one axis": (lambda: normal()[:, 0], {}, r"shape \(100,\); rows are needed as \(n, d\)"),
    "three axes": (lambda: da.zeros((2, 3, 4)), {}, "Pass feature_axis="),
    "named axis": (normal, {"feature_axis": "depth"}, "no named axes"),
    "complex": (lambda: normal() * 1j, {}, "holds complex128, which is not numeric"),
    "text": (lambda: normal().astype(str), {}, "which is not numeric"),
    "columns": (normal, {"columns": ("a",)}, "has no column names"),
    "weights": (normal, {"weight_column": "w"}, "has no column names, so 'w' cannot be chosen"),
    "unknown axes": (
        lambda: da.stack([x := normal()[normal()[:, 0] > 0], x]),
        {"feature_axis": -1},
        r"call its compute_chunk_sizes\(\)",
    ),
}


@pytest.mark.parametrize("case", ARRAY_REFUSALS)
def test_arrays_that_cannot_be(case: str) -> None:
    make, options, message = ARRAY_REFUSALS[case]
    with pytest.raises(SchemaError, match=message):
        open_source(make(), options=ReadOptions(**options))


def test_a_block_of_another_shape() -> None:
    data = normal().map_blocks(lambda x: x[:-1], dtype=float)
    with pytest.raises(SourceError, match=r"Dask block 0 computed to shape \(6, 4\); its array declares \(7, 4\)"):
        open_source(data, options=ReadOptions(chunk_bytes=1)).chunks()[0].load()


def test_a_block_of_another_dtype() -> None:
    data = normal().map_blocks(lambda x: x, dtype=np.float32)
    with pytest.raises(SourceError, match="Dask block 2 computed to float64, which does not fit float32"):
        open_source(data, options=ReadOptions(chunk_bytes=1)).chunks()[2].load()


def fail_at(x: Any, block_info: Any = None) -> Any:
    if block_info and block_info[0]["chunk-location"][0] == 3:
        raise ZeroDivisionError("here")
    return x


def test_a_block_that_fails() -> None:
    refs = open_source(normal().map_blocks(fail_at, dtype=float), options=ReadOptions(chunk_bytes=1)).chunks()
    refs[2].load()
    with pytest.raises(SourceError, match="Dask block 3 failed: ZeroDivisionError: here") as caught:
        refs[3].load()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_each_block_holds_its_own_tasks_only() -> None:
    data = (normal(2000, 4, (1, 4)) * 2 - 1).map_blocks(np.abs)
    refs = open_source(data, options=ReadOptions(chunk_bytes=1)).chunks()
    assert len(refs) == 2000
    assert max(len(block.graph) for ref in refs for block in ref.blocks) <= 3
    assert len(pickle.dumps(refs[1000])) < 10_000


def test_a_mean_over_all_blocks_is_computed_once() -> None:
    times = []

    def count(x: np.ndarray) -> np.ndarray:
        times.append(1)
        return x

    data = normal(200, 4, (2, 4)).map_blocks(count, dtype=float, meta=np.empty((0, 0)))
    source = open_source(data - data.mean(axis=0), options=ReadOptions(chunk_bytes=1))
    assert len(times) <= 100
    values = read(source)
    assert len(times) <= 200
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-15)


def test_fingerprints() -> None:
    data = normal()
    assert open_source(data).fingerprint() == open_source(normal()).fingerprint()
    assert open_source(data + 1).fingerprint() != open_source(data).fingerprint()
    assert open_source(data.rechunk((50, 4))).fingerprint() != open_source(data).fingerprint()


# --- data frames -----------------------------------------------------------------------------------------------------


def pandas_frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.integers(0, 9, 60), "w": rng.uniform(size=60)})
    frame.loc[5, "a"] = np.nan
    return frame


def first_three(part: pd.DataFrame) -> pd.DataFrame:
    return part.head(3)


FRAMES = {
    "as it is": lambda frame: frame,
    "new column": lambda frame: frame.assign(c=frame.a * 2),
    "filtered": lambda frame: frame[frame.b > 4],
    "nullable": lambda frame: frame.assign(b=frame.b.astype("Int64"), a=frame.a.astype("Float32")),
    "arrow": lambda frame: frame.astype({"b": pd.ArrowDtype(pa.int16())}),
    "mean taken off": lambda frame: frame - frame.mean(),
    "mapped": lambda frame: frame.map_partitions(first_three),
    "bool": lambda frame: frame.assign(b=frame.b > 3),
}


@pytest.mark.parametrize("case", FRAMES)
@pytest.mark.parametrize("chunk_bytes", [1, 500, 10**6])
def test_frame_values_and_plan(case: str, chunk_bytes: int) -> None:
    data = FRAMES[case](dd.from_pandas(pandas_frame(), npartitions=12))
    source = open_source(data, options=ReadOptions(chunk_bytes=chunk_bytes))
    check_plan(source)
    expected = data.compute(scheduler="synchronous").to_numpy(np.float64, na_value=np.nan)
    np.testing.assert_array_equal(read(source), expected)
    assert source.schema.names == tuple(data.columns)


def test_frame_weights_and_columns() -> None:
    data = dd.from_pandas(pandas_frame().assign(s="text"), npartitions=4)
    source = open_source(data, weight="w", options=ReadOptions(columns=("b",), chunk_bytes=400))
    check_plan(source)
    assert source.schema.weighted
    np.testing.assert_array_equal(read(source)[:, 0], pandas_frame()["b"])
    np.testing.assert_array_equal(weights(source), pandas_frame()["w"])


def test_labels_that_are_no_text() -> None:
    data = dd.from_pandas(pandas_frame().set_axis([0, 1, 2], axis=1), npartitions=3)
    source = open_source(data)
    assert source.schema.names is None
    np.testing.assert_array_equal(read(source), pandas_frame().to_numpy())


def test_frames_that_cannot_be() -> None:
    data = dd.from_pandas(pandas_frame().assign(s="text"), npartitions=2)
    with pytest.raises(SchemaError, match=r"not numeric: 's' \(large_string\)"):
        open_source(data)
    with pytest.raises(SchemaError, match=r"has no column 'bb'; it holds .*Did you mean 'b' instead of 'bb'"):
        open_source(data, options=ReadOptions(columns=("bb",)))
    with pytest.raises(ParameterError, match=r"cannot read rows from a Dask Series; .* to_frame\(\)"):
        open_source(data.a)


def test_a_partition_that_fails() -> None:
    def fail(part: pd.DataFrame) -> pd.DataFrame:
        raise ZeroDivisionError("here")

    data = dd.from_pandas(pandas_frame(), npartitions=3).map_partitions(fail, meta=pandas_frame())
    with pytest.raises(SourceError, match="failed at the number of rows of its blocks: ZeroDivisionError: here"):
        open_source(data)


def test_a_partition_that_differs_from_its_declaration() -> None:
    data = dd.from_pandas(pandas_frame(), npartitions=3)
    text = data.map_partitions(lambda part: part.assign(a="x"), meta=data._meta)
    with pytest.raises(SourceError, match=r"Dask block 0 is not what its DataFrame declares.*'a' \("):
        open_source(text).chunks()[0].load()
    narrow = data.map_partitions(lambda part: part, meta=data._meta.astype("float32"))
    with pytest.raises(SourceError, match="Dask block 0 holds float64, its DataFrame declares float32"):
        open_source(narrow).chunks()[0].load()


def test_a_partition_whose_length_varies() -> None:
    lengths = iter([5, 3])
    data = dd.from_pandas(pandas_frame(), npartitions=1)
    data = data.map_partitions(lambda part: part.head(next(lengths)), meta=data._meta)
    source = open_source(data)
    with pytest.raises(SourceError, match="Dask block 0 computed to 3 rows where it had 5"):
        source.chunks()[0].load()


def test_other_collections() -> None:
    with pytest.raises(ParameterError, match="cannot read rows from a Dask Delayed"):
        open_dask(dask.delayed(1), ReadOptions())


def test_with_a_client() -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as client:
        data = normal()
        np.testing.assert_array_equal(read(open_source(data)), data.compute())
        persisted = data.persist()
        np.testing.assert_array_equal(read(open_source(persisted)), data.compute())
        np.testing.assert_array_equal(read(open_source(persisted + 1)), (data + 1).compute())
        frame = dd.from_pandas(pandas_frame(), npartitions=3)
        np.testing.assert_array_equal(read(open_source(frame.persist())), pandas_frame().to_numpy())
        ref = open_source(data, options=ReadOptions(chunk_bytes=1)).chunks()[3]
        np.testing.assert_array_equal(client.submit(lambda r: r.load().x, ref).result(), ref.load().x)
