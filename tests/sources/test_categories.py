"""Columns of text as features: one vocabulary for the whole data, whatever holds it, and kept for later data."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from streamem import open_sequences
from streamem.core.errors import DataError, ParameterError, SchemaError
from streamem.sources import ReadOptions, open_source

N = 200
WORDS = ["warm", "cold", "dry", "Äther", "", "wet"]
SORTED = ("", "cold", "dry", "warm", "wet", "Äther")
TEXT = ReadOptions(categories="text", chunk_bytes=400)


def texts() -> list[str | None]:
    drawn = np.random.default_rng(4).integers(0, len(WORDS), size=N)
    found: list[str | None] = [WORDS[i] for i in drawn]
    found[17] = found[180] = None
    return found


def numbers() -> NDArray[Any]:
    return np.arange(N) / 8


def table(words: Any = None) -> pa.Table:
    return pa.table({"x": numbers(), "c": texts() if words is None else words})


def in_table(tmp: Path) -> Any:
    return table()


def in_large_text(tmp: Path) -> Any:
    return table(pa.array(texts(), pa.large_string()))


def in_text_views(tmp: Path) -> Any:
    return table(pa.array(texts(), pa.string_view()))


def in_dictionaries_that_differ(tmp: Path) -> Any:
    halves = [pa.array(texts()[:90]).dictionary_encode(), pa.array(texts()[90:][::-1]).dictionary_encode()[::-1]]
    return pa.table({"x": numbers(), "c": pa.chunked_array(halves)})


def in_parquet(tmp: Path) -> Any:
    pq.write_table(table(), tmp / "t.parquet", row_group_size=13)
    return tmp / "t.parquet"


def in_files_that_differ(tmp: Path) -> Any:
    pq.write_table(table().slice(0, 70), tmp / "a.parquet", row_group_size=13)
    pq.write_table(table(pa.array(texts()).dictionary_encode()).slice(70), tmp / "b.parquet")
    return tmp


def in_a_dataset(tmp: Path) -> Any:
    return ds.dataset(in_parquet(tmp)).filter(ds.field("x") >= 0)


def in_an_arrow_file(tmp: Path) -> Any:
    with pa.ipc.new_file(tmp / "t.arrow", table().schema) as file:
        file.write_table(table(), max_chunksize=30)
    return tmp / "t.arrow"


def in_a_reader(tmp: Path) -> Any:
    return lambda: table().to_reader(max_chunksize=30)


def in_polars(tmp: Path) -> Any:
    return pl.from_arrow(table())


def in_polars_categories(tmp: Path) -> Any:
    return pl.from_arrow(table()).with_columns(pl.col("c").cast(pl.Categorical))  # type: ignore[union-attr]


def in_pandas_objects(tmp: Path) -> Any:
    words = texts()
    words[180] = np.nan  # type: ignore[call-overload]
    return pd.DataFrame({"x": numbers(), "c": pd.Series(words, dtype=object)})


def in_pandas_categories(tmp: Path) -> Any:
    return pd.DataFrame({"x": numbers(), "c": pd.Categorical(texts(), categories=[*WORDS, "never"])})


def in_dask(tmp: Path) -> Any:
    return dask.dataframe.from_pandas(table().to_pandas(), npartitions=4)


PLACES = [value for name, value in list(globals().items()) if name.startswith("in_")]


def read(source: Any) -> NDArray[Any]:
    return np.concatenate([ref.load().x for ref in source.chunks()])


def expected() -> NDArray[Any]:
    codes = [np.nan if word is None else float(SORTED.index(word)) for word in texts()]
    return np.column_stack([numbers(), codes])


@pytest.mark.parametrize("put", PLACES, ids=lambda put: put.__name__)
def test_every_kind_of_table_gets_the_same_codes(put: Callable[[Path], Any], tmp_path: Path) -> None:
    data = put(tmp_path)
    source = open_source(data, options=TEXT)
    assert source.schema.names == ("x", "c")
    assert source.schema.categories == {"c": SORTED}
    np.testing.assert_array_equal(read(source), expected())
    assert len(source.chunks()) > 1
    again = open_source(data, options=ReadOptions(categories=source.schema.categories))
    np.testing.assert_array_equal(read(again), expected())
    backwards = ReadOptions(categories={"c": [*SORTED, "new"][::-1]})
    np.testing.assert_array_equal(read(open_source(data, options=backwards))[:, 1], 6 - expected()[:, 1])


@pytest.mark.parametrize("put", PLACES, ids=lambda put: put.__name__)
def test_text_is_refused_unless_it_is_asked_for(put: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="'c'"):
        open_source(put(tmp_path))


@pytest.mark.parametrize("put", PLACES, ids=lambda put: put.__name__)
def test_a_value_that_was_not_fitted_is_named(put: Callable[[Path], Any], tmp_path: Path) -> None:
    known = {"c": SORTED[:4] + SORTED[5:]}
    with pytest.raises(DataError, match=r"column 'c': 'wet' \(and \d+ more\) is none of its 5 categories \('', 'cold'"):
        read(open_source(put(tmp_path), options=ReadOptions(categories=known)))


def test_codes_alone_fit_float32() -> None:
    source = open_source(table(), options=ReadOptions(columns=("c",), categories="text"))
    assert source.schema.dtype == np.float32
    np.testing.assert_array_equal(read(source)[:, 0], expected()[:, 1])


def test_the_fingerprint_knows_the_categories(tmp_path: Path) -> None:
    for data in (table(), in_parquet(tmp_path), in_an_arrow_file(tmp_path), in_a_reader(tmp_path)):
        prints = {
            open_source(data, options=ReadOptions(categories=known)).fingerprint()
            for known in ("text", {"c": SORTED[::-1]}, {"c": SORTED})
        }
        assert len(prints) == 2


def test_partition_keys_may_be_text(tmp_path: Path) -> None:
    for place in ("sea", "land"):
        (tmp_path / f"place={place}").mkdir()
        pq.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / f"place={place}" / "t.parquet")
    source = open_source(tmp_path, options=ReadOptions(columns=("place", "x"), categories="text"))
    assert source.schema.categories == {"place": ("land", "sea")}
    np.testing.assert_array_equal(read(source), [[0, 1], [0, 2], [1, 1], [1, 2]])


def test_numbers_can_be_given_categories() -> None:
    data = pa.table({"grade": pa.array([30, 10, None, 20], pa.int64())})
    found = read(open_source(data, options=ReadOptions(categories={"grade": [10, 20, 30]})))
    np.testing.assert_array_equal(found[:, 0], [2, 0, np.nan, 1])


def test_handles_travel_with_their_vocabulary(tmp_path: Path) -> None:
    for data in (table(), in_parquet(tmp_path)):
        for ref in open_source(data, options=TEXT).chunks():
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(ref)).load().x, ref.load().x)


def test_what_identifies_sequences_is_no_category() -> None:
    data = pa.table({"id": ["b", "b", "a"], "c": ["y", "x", "y"]})
    source = open_sequences(data, sequence_column="id", options=ReadOptions(categories="text"))
    assert source.schema.categories == {"c": ("x", "y")}
    np.testing.assert_array_equal(read(source), [[1], [0], [1]])


REFUSED = {
    "another word": (lambda: ReadOptions(categories="all"), ParameterError, "categories is 'all'"),
    "a value twice": (lambda: ReadOptions(categories={"c": ["a", "a"]}), ParameterError, "'c' hold a value twice"),
    "another type": (
        lambda: read(open_source(table(), options=ReadOptions(categories={"c": [1, 2]}))),
        SchemaError,
        "column 'c' holds string, its categories do not",
    ),
    "too many values": (
        lambda: open_source(pa.table({"c": [str(i) for i in range(2**16 + 1)]}), options=TEXT),
        SchemaError,
        "text column 'c' has more than 65536 different values",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str) -> None:
    attempt, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        attempt()
