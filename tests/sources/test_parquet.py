"""Parquet files and folders: the values that pyarrow gives, planned from footers, and every fault by its text."""

from __future__ import annotations

import decimal
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from streamem.core.errors import SchemaError, SourceChangedError, SourceError
from streamem.core.ports import Source
from streamem.sources import ReadOptions, open_source

N = 1000


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
        assert chunk.x.shape[1] == source.schema.n_features
        again = pickle.loads(pickle.dumps(ref)).load()
        np.testing.assert_array_equal(again.x, chunk.x)
        start += ref.rows
    assert start == source.n_rows


def table_of(seed: int, n: int = N) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"a": rng.normal(size=n), "b": rng.normal(size=n), "w": rng.uniform(size=n)})


@pytest.mark.parametrize("row_group_size", [7, 100, N])
@pytest.mark.parametrize("chunk_bytes", [1, 2000, 10**6])
def test_values_and_plan(tmp_path: Path, row_group_size: int, chunk_bytes: int) -> None:
    table = table_of(0)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=row_group_size)
    source = open_source(tmp_path / "t.parquet", options=ReadOptions(chunk_bytes=chunk_bytes))
    check_plan(source)
    assert source.schema.names == ("a", "b", "w")
    np.testing.assert_array_equal(read(source), table.to_pandas().to_numpy())
    assert all(ref.rows <= max(row_group_size, chunk_bytes // 24) for ref in source.chunks())


def test_small_row_groups_are_joined_across_files(tmp_path: Path) -> None:
    for i in range(6):
        pq.write_table(table_of(i, 10), tmp_path / f"{i}.parquet", row_group_size=5)
    source = open_source(tmp_path, options=ReadOptions(chunk_bytes=20 * 24))
    assert [ref.rows for ref in source.chunks()] == [20, 20, 20]
    check_plan(source)
    np.testing.assert_array_equal(read(source), np.vstack([table_of(i, 10).to_pandas() for i in range(6)]))


TYPES = {
    "bool": (pa.bool_(), np.float32),
    "int8": (pa.int8(), np.float32),
    "uint16": (pa.uint16(), np.float32),
    "int32": (pa.int32(), np.float64),
    "uint64": (pa.uint64(), np.float64),
    "int64": (pa.int64(), np.float64),
    "half": (pa.float16(), np.float32),
    "float": (pa.float32(), np.float32),
    "double": (pa.float64(), np.float64),
    "decimal": (pa.decimal128(9, 2), np.float64),
    "dictionary": (pa.dictionary(pa.int8(), pa.float32()), np.float32),
}


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_every_numeric_type(tmp_path: Path, name: str, nulls: bool) -> None:
    kind, dtype = TYPES[name]
    plain: list[object] = [0, 1, 1, 0, 1] if name != "bool" else [False, True, True]
    if name == "decimal":
        plain = [decimal.Decimal("1.25"), decimal.Decimal("-3.50"), decimal.Decimal("0.10")]
    values = [None if nulls and i == 1 else value for i, value in enumerate(plain)]
    pq.write_table(pa.table({"x": pa.array(values, kind)}), tmp_path / "t.parquet", row_group_size=2)
    source = open_source(tmp_path / "t.parquet")
    assert source.schema.dtype == dtype
    expected = np.array([np.nan if value is None else float(value) for value in values])
    np.testing.assert_array_equal(read(source)[:, 0], expected)


def test_large_integers_with_nulls_go_through_float64(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([2**62, None, -(2**53)], pa.int64())}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read(open_source(tmp_path / "t.parquet"))[:, 0], [2.0**62, np.nan, -(2.0**53)])


@pytest.mark.parametrize("nulls", [False, True])
def test_fixed_size_lists(tmp_path: Path, nulls: bool) -> None:
    if nulls and int(pa.__version__.partition(".")[0]) < 26:
        pytest.skip("Arrow before 26 cannot read such a file: an error, not other values")
    rows = [[1.0, 2.0, 3.0], None if nulls else [4.0, 5.0, 6.0], [7.0, None if nulls else 8.0, 9.0]]
    table = pa.table({"e": pa.array(rows, pa.list_(pa.float32(), 3)), "z": pa.array([1, 2, 3], pa.int8())})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    source = open_source(tmp_path / "t.parquet")
    assert source.schema.names == ("e[0]", "e[1]", "e[2]", "z")
    assert source.schema.dtype == np.float32
    gap = np.nan if nulls else None
    expected = np.array(
        [[1, 2, 3, 1], [gap or 4, gap or 5, gap or 6, 2], [7, gap or 8, 9, 3]],
        np.float32,
    )
    np.testing.assert_array_equal(read(source), expected)


def test_fixed_size_lists_without_arrow_schema_are_refused(tmp_path: Path) -> None:
    table = pa.table({"e": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))})
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False)
    with pytest.raises(SchemaError, match=r"'e' \(list<element: float>\).*cast them to a fixed-size list"):
        open_source(tmp_path / "t.parquet")


def test_columns_in_the_order_asked(tmp_path: Path) -> None:
    table = table_of(0)
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", options=ReadOptions(columns=("w", "a")))
    np.testing.assert_array_equal(read(source), table.to_pandas()[["w", "a"]].to_numpy())


def test_dotted_names(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 2.0], "a.b": [3.0, 4.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    for name, expected in {"a": [1.0, 2.0], "a.b": [3.0, 4.0]}.items():
        source = open_source(tmp_path / "t.parquet", options=ReadOptions(columns=(name,)))
        np.testing.assert_array_equal(read(source)[:, 0], expected)


def test_weight_column(tmp_path: Path) -> None:
    table = table_of(0)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    source = open_source(tmp_path / "t.parquet", weight="w", options=ReadOptions(chunk_bytes=5000))
    check_plan(source)
    assert source.schema.weighted
    assert source.schema.names == ("a", "b")
    np.testing.assert_array_equal(weights(source), table["w"].to_numpy())


def hive(root: Path) -> np.ndarray:
    rows = []
    for year in (2024, 2023):
        for part in range(2):
            folder = root / f"year={year}" / "region=eu"
            folder.mkdir(parents=True, exist_ok=True)
            table = table_of(year + part, 20)
            pq.write_table(table, folder / f"{part}.parquet", row_group_size=8)
            rows.append((year, part, np.column_stack([table.to_pandas(), np.full(20, year)])))
    return np.vstack([values for *_, values in sorted(rows, key=lambda row: row[:2])])


@pytest.mark.parametrize("as_dataset", [False, True])
def test_hive_partitions(tmp_path: Path, as_dataset: bool) -> None:
    expected = hive(tmp_path)
    data = ds.dataset(tmp_path, format="parquet", partitioning="hive") if as_dataset else tmp_path
    np.testing.assert_array_equal(read(open_source(data)), expected[:, :3])
    source = open_source(data, options=ReadOptions(columns=("year", "b"), chunk_bytes=300))
    check_plan(source)
    assert source.schema.dtype == np.float64
    np.testing.assert_array_equal(read(source), expected[:, [3, 1]])
    with pytest.raises(SchemaError, match=r"'region' \(string\)"):
        open_source(data, options=ReadOptions(columns=("region",)))


def test_hidden_files_and_others_are_left_out(tmp_path: Path) -> None:
    pq.write_table(table_of(0), tmp_path / "a.parquet")
    for name in ("_metadata.parquet", ".hidden.parquet", "readme.txt"):
        (tmp_path / name).write_text("no Parquet")
    assert open_source(tmp_path).n_rows == N


def test_numeric_types_of_files_may_widen(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([0.1], pa.float32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": pa.array([0.1], pa.float64())}), tmp_path / "b.parquet")
    source = open_source(tmp_path)
    assert source.schema.dtype == np.float64
    np.testing.assert_array_equal(read(source)[:, 0], [np.float32(0.1), 0.1])


MIXED = {
    "missing": (pa.table({"x": [1.0]}), r"column 'y' \(float64\) is in .*a\.parquet and not in .*b\.parquet"),
    "extra": (
        pa.table({"x": [1.0], "y": [1.0], "z": [1]}),
        r"'z' \(int64\) is in .*b\.parquet and not in .*a\.parquet",
    ),
    "text": (pa.table({"x": [1.0], "y": ["1"]}), r"b\.parquet: columns that are not numeric: 'y' \(string\)"),
    "list": (
        pa.table({"x": [1.0], "y": pa.array([[1.0]], pa.list_(pa.float64(), 1))}),
        r"'y' is float64 in .*a\.parquet and float64\[1\] in .*b\.parquet",
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_mixed_schemas_are_refused(tmp_path: Path, case: str) -> None:
    table, message = MIXED[case]
    pq.write_table(pa.table({"x": [1.0], "y": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=message):
        open_source(tmp_path)


def test_a_chosen_column_missing_in_one_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"depth": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"dept": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=r"b\.parquet has no column 'depth'; it holds 'dept'. Did you mean 'dept'"):
        open_source(tmp_path, options=ReadOptions(columns=("depth",)))


REFUSED = {
    "text": (pa.array(["x"]), r"'c' \(string\)\. Text and categories are features only with"),
    "categories": (pa.array(["x"]).dictionary_encode(), r"'c' \(dictionary<.*Text and categories"),
    "date": (pa.array([1], pa.date32()), r"'c' \(date32\[day\]\)\. Cast dates and times to numbers first"),
    "time": (pa.array([1], pa.timestamp("ms")), r"'c' \(timestamp\[ms\]\)\. Cast dates and times"),
    "list": (pa.array([[1.0]]), r"'c' \(list<.*Lists of variable length"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_columns_that_are_no_numbers(tmp_path: Path, case: str) -> None:
    column, message = REFUSED[case]
    pq.write_table(pa.table({"a": [1.0], "c": column}), tmp_path / "t.parquet")
    with pytest.raises(SchemaError, match=message):
        open_source(tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", options=ReadOptions(columns=("a",))).n_rows == 1


def test_weight_columns_that_cannot_be(tmp_path: Path) -> None:
    lists = pa.array([[1.0]], pa.list_(pa.float32(), 1))
    pq.write_table(pa.table({"a": [1.0], "e": lists}), tmp_path / "t.parquet")
    with pytest.raises(SchemaError, match=r"weight column 'e' holds fixed_size_list.*one number a row"):
        open_source(tmp_path / "t.parquet", weight="e")
    with pytest.raises(SchemaError, match="'a' cannot be both a feature and the weight"):
        open_source(tmp_path / "t.parquet", weight="a", options=ReadOptions(columns=("a",)))
    with pytest.raises(SchemaError, match="has no column 'v'; it holds 'a', 'e'"):
        open_source(tmp_path / "t.parquet", weight="v")


def test_zero_rows(tmp_path: Path) -> None:
    pq.write_table(table_of(0, 0), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert source.n_rows == 0
    assert list(source.chunks()) == []
    assert source.schema.n_features == 3


def test_an_empty_file_among_others(tmp_path: Path) -> None:
    for name, n in {"a": 0, "b": 5, "c": 0, "d": 5}.items():
        pq.write_table(table_of(n, n), tmp_path / f"{name}.parquet")
    source = open_source(tmp_path, options=ReadOptions(chunk_bytes=5 * 24))
    assert [ref.rows for ref in source.chunks()] == [5, 5]
    check_plan(source)


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table_of(0), path)
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"cannot read Parquet file .*t\.parquet: "):
        open_source(path)
    with pytest.raises(SourceError, match=r"cannot read Parquet file .*t\.parquet: "):
        source.chunks()[0].load()


def test_flipped_page_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table_of(0), path, row_group_size=500, write_page_checksum=True, use_dictionary=False)
    page = pq.ParquetFile(path).metadata.row_group(1).column(0)
    damaged = bytearray(path.read_bytes())
    damaged[page.data_page_offset + page.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(damaged)
    refs = open_source(path, options=ReadOptions(chunk_bytes=500 * 24)).chunks()
    refs[0].load()
    with pytest.raises(SourceError, match=r"cannot read row group 1 of Parquet file .*t\.parquet: .*CRC"):
        refs[1].load()


def test_rewritten_files(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table_of(0), path)
    source = open_source(path)
    before = source.fingerprint()
    assert open_source(path).fingerprint() == before
    pq.write_table(table_of(1, N - 1), path)
    assert source.fingerprint() != before
    with pytest.raises(SourceChangedError, match=r"row group 0 of Parquet file .* no longer has 1000 rows"):
        source.chunks()[0].load()
    path.unlink()
    with pytest.raises(SourceChangedError, match=r"t\.parquet is gone"):
        source.fingerprint()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "_hidden.parquet").write_text("no Parquet")
    with pytest.raises(SourceError, match="holds no Parquet files"):
        open_source(tmp_path)
