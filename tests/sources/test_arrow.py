"""Whatever speaks Arrow: tables, DataFrames, IPC files, datasets and streams give the values that pyarrow gives."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from streamem.core.errors import ParameterError, SchemaError, SourceChangedError, SourceError
from streamem.core.ports import Source
from streamem.sources import ReadOptions, open_source
from streamem.sources.arrow_reader import KEPT_CHUNKS
from streamem.sources.column_values import MANY

N = 500


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
        start += ref.rows
    assert start == source.n_rows


def frame_of(seed: int = 0, n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.integers(-9, 9, n), "w": rng.uniform(size=n)})
    frame.loc[3:5, "a"] = np.nan
    return frame


def table_of(seed: int = 0, n: int = N) -> pa.Table:
    return pa.Table.from_pandas(frame_of(seed, n), preserve_index=False)


def batches_of(table: pa.Table, rows: int = 40) -> list[pa.RecordBatch]:
    return table.to_batches(max_chunksize=rows)


def reader_of(table: pa.Table) -> Any:
    return lambda: pa.RecordBatchReader.from_batches(table.schema, batches_of(table))


class OnlyStreams:
    """What other libraries give: nothing but ``__arrow_c_stream__``."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.times = 0

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        self.times += 1
        reader = pa.RecordBatchReader.from_batches(self._table.schema, batches_of(self._table))
        return reader.__arrow_c_stream__(requested_schema)


def write_ipc(path: Path, table: pa.Table, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        for batch in batches_of(table):
            writer.write_batch(batch)
    return path


LAYOUTS = {
    "table": lambda table, _: table,
    "chunked table": lambda table, _: pa.Table.from_batches(batches_of(table)),
    "sliced table": lambda table, _: pa.concat_tables([table, table]).slice(N, N),
    "record batch": lambda table, _: table.combine_chunks().to_batches()[0],
    "pandas": lambda table, _: table.to_pandas(),
    "polars": lambda table, _: pl.from_arrow(table),
    "in-memory dataset": lambda table, _: ds.dataset(table),
    "function": lambda table, _: reader_of(table),
    "stream": lambda table, _: OnlyStreams(table),
    "ipc": lambda table, folder: write_ipc(folder / "t.arrow", table),
    "compressed ipc": lambda table, folder: write_ipc(folder / "t.feather", table, "lz4"),
    "csv dataset": lambda table, folder: csv_dataset(folder, table),
    "ipc dataset": lambda table, folder: ds.dataset(write_ipc(folder / "t.arrow", table), format="ipc"),
    "parquet dataset": lambda table, folder: parquet_dataset(folder, table),
}


def csv_dataset(folder: Path, table: pa.Table) -> Any:
    pacsv.write_csv(table, folder / "t.csv")
    return ds.dataset(folder / "t.csv", format="csv")


def parquet_dataset(folder: Path, table: pa.Table) -> Any:
    pq.write_table(table, folder / "t.parquet", row_group_size=60)
    return ds.dataset(folder / "t.parquet")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk_bytes", [1, 1500, 10**6])
def test_values_and_plan(tmp_path: Path, layout: str, chunk_bytes: int) -> None:
    table = table_of()
    source = open_source(LAYOUTS[layout](table, tmp_path), options=ReadOptions(chunk_bytes=chunk_bytes))
    check_plan(source)
    assert source.schema.names == ("a", "b", "w")
    assert not source.schema.weighted
    np.testing.assert_array_equal(read(source), frame_of().to_numpy())
    np.testing.assert_array_equal(read(source), frame_of().to_numpy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_and_chosen_columns(tmp_path: Path, layout: str) -> None:
    data = LAYOUTS[layout](table_of(), tmp_path)
    source = open_source(data, weight="w", options=ReadOptions(columns=("b",), chunk_bytes=1000))
    check_plan(source)
    assert source.schema.names == ("b",)
    np.testing.assert_array_equal(read(source)[:, 0], frame_of()["b"])
    np.testing.assert_array_equal(weights(source), frame_of()["w"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fingerprints_follow_the_data(tmp_path: Path, layout: str) -> None:
    folders = [tmp_path / str(i) for i in range(2)]
    for folder in folders:
        folder.mkdir()
    data = LAYOUTS[layout](table_of(), folders[0])
    source = open_source(data)
    assert source.fingerprint() == open_source(data).fingerprint() == source.fingerprint()
    assert open_source(LAYOUTS[layout](table_of(1), folders[1])).fingerprint() != source.fingerprint()


@pytest.mark.parametrize("layout", ["table", "sliced table", "pandas", "polars", "ipc", "csv dataset", "stream"])
def test_missing_columns(tmp_path: Path, layout: str) -> None:
    data = LAYOUTS[layout](table_of(), tmp_path)
    with pytest.raises(SchemaError, match=r"has no column 'aa', 'q'; it holds 'a', 'b', 'w'.*'a' instead of 'aa'"):
        open_source(data, options=ReadOptions(columns=("aa", "q")))


@pytest.mark.parametrize("layout", ["table", "record batch", "pandas", "polars", "function", "ipc"])
def test_zero_rows(tmp_path: Path, layout: str) -> None:
    empty = table_of(n=10).slice(0, 0)
    makers = {**LAYOUTS, "record batch": lambda table, _: pa.RecordBatch.from_pylist([], schema=table.schema)}
    source = open_source(makers[layout](empty, tmp_path))
    assert source.n_rows == 0
    assert list(source.chunks()) == []


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("start", [0, 2, 4])
def test_fixed_size_lists_in_slices(nulls: bool, start: int) -> None:
    rows: list[list[float] | None] = [[float(i), float(-i)] for i in range(6)]
    if nulls:
        rows[0] = rows[3] = None
    column = pa.array(rows, pa.list_(pa.float64(), 2)).slice(start)
    source = open_source(pa.table({"e": column}))
    expected = np.array([[np.nan] * 2 if row is None else row for row in rows[start:]])
    np.testing.assert_array_equal(read(source), expected)
    assert source.schema.names == ("e[0]", "e[1]")


def test_integer_lists_with_nulls_and_tensors() -> None:
    column = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8(), 2))
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), (2,)), pa.array([[5.0, 6.0]] * 3, pa.list_(pa.float32(), 2))
    )
    source = open_source(pa.table({"e": column, "t": tensors}))
    assert source.schema.dtype == np.float32
    np.testing.assert_array_equal(read(source), [[1, 2, 5, 6], [np.nan] * 2 + [5, 6], [3, np.nan, 5, 6]])


def test_dictionaries_of_numbers() -> None:
    column = pa.chunked_array([pa.array([10, 20, None]).dictionary_encode(), pa.array([30, 20]).dictionary_encode()])
    np.testing.assert_array_equal(read(open_source(pa.table({"c": column})))[:, 0], [10, 20, np.nan, 30, 20])


@pytest.mark.parametrize("whole", [False, True])
def test_many_rows_of_every_kind_in_pieces_that_end_apart(whole: bool) -> None:
    """Columns written together and alone, of other types and with nulls; their pieces end at different rows."""
    n, rng = 3 * MANY, np.random.default_rng(1)
    columns: dict[str, np.ndarray] = {f"f{i}": rng.normal(size=n) for i in range(6)}
    columns |= {"i": rng.integers(-99, 99, n), "s": rng.normal(size=n).astype(np.float32), "b": rng.random(n) < 0.5}
    gaps = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    lists = rng.normal(size=(n, 2))
    arrays: dict[str, Any] = {name: pa.array(column) for name, column in columns.items()}
    arrays["e"] = pa.FixedSizeListArray.from_arrays(lists.ravel(), 2)
    arrays |= {"g": pa.array(gaps, from_pandas=True), "last": pa.array(columns["f0"][::-1])}
    cuts = {name: [] if whole else sorted(rng.integers(1, n, 3)) for name in arrays}
    table = pa.table({name: pieces(array, cuts[name]) for name, array in arrays.items()})
    expected = np.column_stack([*columns.values(), lists, gaps, columns["f0"][::-1]])
    np.testing.assert_array_equal(read(open_source(table)), expected)
    reals = table.select([*(f"f{i}" for i in range(6))]).cast(pa.schema([(f"f{i}", pa.float32()) for i in range(6)]))
    np.testing.assert_array_equal(read(open_source(reals)), expected[:, :6].astype(np.float32))


def pieces(array: Any, cuts: list[int]) -> pa.ChunkedArray:
    return pa.chunked_array([array[a:b] for a, b in zip([0, *cuts], [*cuts, len(array)], strict=True)])


def test_a_pickled_slice_carries_its_rows_only() -> None:
    ref = open_source(table_of(n=100_000), options=ReadOptions(chunk_bytes=2400)).chunks()[7]
    parcel = pickle.dumps(ref)
    assert len(parcel) < 10_000
    np.testing.assert_array_equal(pickle.loads(parcel).load().x, ref.load().x)


@pytest.mark.parametrize("layout", ["ipc", "parquet dataset", "stream"])
def test_refs_travel(tmp_path: Path, layout: str) -> None:
    table = table_of()
    data = ds.dataset(write_ipc(tmp_path / "t.arrow", table), format="ipc") if layout == "stream" else None
    refs = open_source(data or LAYOUTS[layout](table, tmp_path), options=ReadOptions(chunk_bytes=1000)).chunks()
    travelled = [pickle.loads(pickle.dumps(ref)) for ref in refs]
    np.testing.assert_array_equal(np.vstack([ref.load().x for ref in travelled]), frame_of().to_numpy())


# --- pandas and polars -----------------------------------------------------------------------------------------------


def test_pandas_types() -> None:
    frame = pd.DataFrame(
        {
            "Int": pd.array([1, None, 3], "Int64"),
            "bool": pd.array([True, False, None], "boolean"),
            "arrow": pd.array([1, 2, None], dtype=pd.ArrowDtype(pa.int8())),
            "category": pd.Categorical([10, 20, 10]),
            "half": np.array([1, 2, 3], np.float16),
        },
        index=[7, 8, 9],
    )
    expected = [[1, 1, 1, 10, 1], [np.nan, 0, 2, 20, 2], [3, np.nan, np.nan, 10, 3]]
    np.testing.assert_array_equal(read(open_source(frame)), expected)


def test_pandas_labels_that_are_no_text() -> None:
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=[0, "b"])
    source = open_source(frame)
    assert source.schema.names is None
    np.testing.assert_array_equal(read(source), frame.to_numpy())


def test_pandas_columns_that_are_no_numbers() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "o": np.array([1, "x"], object), "z": [1j, 2j], "s": ["x", "y"]})
    with pytest.raises(SchemaError, match=r"columns that hold no numbers: 'o' \(object\), 'z' \(complex128\)"):
        open_source(frame)
    with pytest.raises(SchemaError, match=r"not numeric: 's' \(large_string\)"):
        open_source(frame, options=ReadOptions(columns=("a", "s")))
    np.testing.assert_array_equal(read(open_source(frame, options=ReadOptions(columns=("a",))))[:, 0], [1, 2])
    with pytest.raises(SchemaError, match="several columns named 'a'"):
        open_source(frame[["a", "a"]])


def test_polars_types() -> None:
    frame = pl.DataFrame(
        {"e": [[1.0, 2.0], None], "i": [1, None], "b": [True, False]},
        schema={"e": pl.Array(pl.Float32, 2), "i": pl.Int16, "b": pl.Boolean},
    )
    np.testing.assert_array_equal(read(open_source(frame)), [[1, 2, 1, 1], [np.nan, np.nan, np.nan, 0]])
    with pytest.raises(SchemaError, match=r"'s' \(string_view\)"):
        open_source(pl.DataFrame({"s": ["x"]}))


@pytest.mark.parametrize("series", [pd.Series([1.0]), pl.Series([1.0]), pa.chunked_array([[1.0]])])
def test_a_single_column_is_no_table(series: Any) -> None:
    with pytest.raises(ParameterError, match="has no columns; pass a table"):
        open_source(series)


# --- files and datasets ----------------------------------------------------------------------------------------------


def test_damaged_ipc_files(tmp_path: Path) -> None:
    path = write_ipc(tmp_path / "t.arrow", table_of())
    refs = open_source(path, options=ReadOptions(chunk_bytes=1000)).chunks()
    path.write_bytes(path.read_bytes()[:-200])
    for read_it in (lambda: open_source(path), refs[0].load):
        with pytest.raises(SourceError, match=r"cannot read Arrow file .*t\.arrow: "):
            read_it()


def test_rewritten_ipc_files(tmp_path: Path) -> None:
    source = open_source(write_ipc(tmp_path / "t.arrow", table_of()), options=ReadOptions(chunk_bytes=1000))
    write_ipc(tmp_path / "t.arrow", table_of(n=15))
    with pytest.raises(SourceChangedError, match=r"record batch 0 of Arrow file .* no longer has 40 rows"):
        source.chunks()[0].load()
    (tmp_path / "t.arrow").unlink()
    with pytest.raises(SourceChangedError, match=r"t\.arrow is gone"):
        source.fingerprint()


def test_feather_as_pyarrow_writes_it(tmp_path: Path) -> None:
    feather.write_feather(table_of(), tmp_path / "t.feather", chunksize=100)
    np.testing.assert_array_equal(read(open_source(tmp_path / "t.feather")), frame_of().to_numpy())


def test_a_filtered_dataset(tmp_path: Path) -> None:
    data = parquet_dataset(tmp_path, table_of()).filter(ds.field("b") > 0)
    frame = frame_of()
    np.testing.assert_array_equal(read(open_source(data)), frame[frame["b"] > 0].to_numpy())


def test_a_dataset_that_casts(tmp_path: Path) -> None:
    parquet_dataset(tmp_path, table_of())
    schema = pa.schema([("b", pa.float32()), ("w", pa.float64())])
    source = open_source(ds.dataset(tmp_path / "t.parquet", schema=schema))
    assert source.schema.names == ("b", "w")
    np.testing.assert_array_equal(read(source), frame_of()[["b", "w"]].to_numpy())


def test_keys_of_a_partitioned_csv_dataset_are_chosen_by_name(tmp_path: Path) -> None:
    for year in (1, 2):
        (tmp_path / f"year={year}").mkdir()
        pacsv.write_csv(pa.table({"a": [0.5, 1.5]}), tmp_path / f"year={year}" / "t.csv")
    data = ds.dataset(tmp_path, format="csv", partitioning="hive")
    assert open_source(data).schema.names == ("a",)
    chosen = read(open_source(data, options=ReadOptions(columns=("year", "a"))))
    np.testing.assert_array_equal(chosen, [[1, 0.5], [1, 1.5], [2, 0.5], [2, 1.5]])


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_reader_is_refused() -> None:
    with pytest.raises(ParameterError, match="RecordBatchReader can be read once, EM reads its data many times: pass"):
        open_source(table_of().to_reader())


def test_each_pass_starts_the_reader_once() -> None:
    data = OnlyStreams(table_of())
    source = open_source(data, options=ReadOptions(chunk_bytes=1000))
    refs = source.chunks()
    for _ in range(3):
        for ref in refs:
            ref.load()
    assert data.times == 1 + 3


def test_chunks_passed_over_are_kept() -> None:
    data = OnlyStreams(table_of())
    refs = open_source(data, options=ReadOptions(chunk_bytes=1)).chunks()
    order = [2, 0, 1, 5, 4, 3, *range(6, len(refs))]
    loaded = {i: refs[i].load().x for i in order}
    assert data.times == 1 + 1
    np.testing.assert_array_equal(np.vstack([loaded[i] for i in sorted(loaded)]), frame_of().to_numpy())


def test_any_order_gives_the_same_rows() -> None:
    refs = open_source(reader_of(table_of(n=10_000)), options=ReadOptions(chunk_bytes=1)).chunks()
    assert len(refs) > 2 * KEPT_CHUNKS
    loaded = {int(i): refs[i].load().x for i in np.random.default_rng(0).permutation(len(refs))}
    np.testing.assert_array_equal(np.vstack([loaded[i] for i in range(len(refs))]), frame_of(n=10_000).to_numpy())
    assert len(refs[0].cursor._kept) <= KEPT_CHUNKS


def test_threads_share_one_reader() -> None:
    refs = open_source(reader_of(table_of()), options=ReadOptions(chunk_bytes=1)).chunks()
    gate = threading.Barrier(4)

    def load(ref: Any) -> np.ndarray:
        if ref.index < 4:
            gate.wait()
        return ref.load().x

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            np.testing.assert_array_equal(np.vstack(list(pool.map(load, refs))), frame_of().to_numpy())


def growing() -> Any:
    sizes = iter([100, 100, 140, 60])

    def start() -> pa.RecordBatchReader:
        table = table_of(n=next(sizes))
        return pa.RecordBatchReader.from_batches(table.schema, batches_of(table))

    return start


def test_streams_that_change_between_passes() -> None:
    source = open_source(growing())
    read(source)
    with pytest.raises(SourceChangedError, match="of 40 rows came where 20 rows were expected; the function must"):
        read(source)
    with pytest.raises(SourceChangedError, match="of 20 rows came where 40 rows were expected"):
        read(source)


@pytest.mark.parametrize(("rows", "message"), [(80, "the end came where 40 rows"), (160, "40 rows came after the")])
def test_streams_that_end_elsewhere(rows: int, message: str) -> None:
    tables = iter([table_of(n=120), table_of(n=rows)])
    source = open_source(lambda: reader_of(next(tables))())
    with pytest.raises(SourceChangedError, match=message):
        read(source)


def test_a_function_that_returns_the_same_reader() -> None:
    reader = reader_of(table_of())()
    source = open_source(lambda: reader)
    with pytest.raises(SourceError, match=r"the function must return a new reader|failed while it was read"):
        read(source)


def test_functions_that_fail() -> None:
    def broken() -> None:
        raise RuntimeError("no connection")

    with pytest.raises(SourceError, match=r"broken\(\) could not be started: RuntimeError: no connection") as caught:
        open_source(broken)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ParameterError, match=r"gave int; a pyarrow.RecordBatchReader is needed"):
        open_source(lambda: 3)


def test_streams_that_break() -> None:
    table = table_of()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from batches_of(table)[:2]
        raise RuntimeError("link lost")

    with pytest.raises(SourceError, match="failed while it was read: RuntimeError: link lost"):
        open_source(lambda: pa.RecordBatchReader.from_batches(table.schema, batches()))
