"""The index of a DataFrame is no feature, wherever the frame was written to, unless it is asked for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianHMM, GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.cli.main import main
from streamem.core.errors import SchemaError
from streamem.streams.folder import FolderStream


def frame(index: str = "dropna") -> pd.DataFrame:
    """Two features, and an index that is no plain count."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    data["key"], data["text"] = np.arange(40) // 10, np.array(["x", "y"] * 20)
    rows: dict[str, Any] = {
        "dropna": lambda: data.drop(columns=["key", "text"]).drop(index=[3, 5]),
        "named": lambda: data.drop(columns="text").set_index("key"),
        "levels": lambda: data.set_index(["key", "text"]),
        "text": lambda: data.drop(columns="key").set_index("text"),
        "unnamed levels": lambda: data.set_index(["key", "text"]).rename_axis([None, None]),
        "range": lambda: data[["a", "b"]].rename_axis("place"),
    }
    made: pd.DataFrame = rows[index]()
    return made


def write_parquet(data: pd.DataFrame, folder: Path) -> Any:
    data.to_parquet(folder / "x.parquet")
    return str(folder / "x.parquet")


def write_folder(data: pd.DataFrame, folder: Path) -> Any:
    for number in range(2):
        data.iloc[number::2].to_parquet(folder / f"{number}.parquet")
    return str(folder)


def write_feather(data: pd.DataFrame, folder: Path) -> Any:
    feather.write_feather(pa.Table.from_pandas(data), folder / "x.feather")
    return str(folder / "x.feather")


def write_ipc(data: pd.DataFrame, folder: Path) -> Any:
    table = pa.Table.from_pandas(data)
    with pa.ipc.new_file(folder / "x.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=16)
    return str(folder / "x.arrow")


def as_dataset(data: pd.DataFrame, folder: Path) -> Any:
    return ds.dataset(write_folder(data, folder))


def as_feather_dataset(data: pd.DataFrame, folder: Path) -> Any:
    return ds.dataset(write_feather(data, folder), format="feather")


def as_filtered_dataset(data: pd.DataFrame, folder: Path) -> Any:
    return as_dataset(data, folder).filter(ds.field("a") > -100)


def as_table(data: pd.DataFrame, folder: Path) -> Any:
    return pa.Table.from_pandas(data)


def as_reader(data: pd.DataFrame, folder: Path) -> Any:
    return pa.Table.from_pandas(data).to_reader


WRITERS = [
    write_parquet,
    write_folder,
    write_feather,
    write_ipc,
    as_dataset,
    as_feather_dataset,
    as_filtered_dataset,
    as_table,
    as_reader,
]
INDEXES = ["dropna", "named", "levels", "text", "unnamed levels", "range"]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_path_and_the_frame_that_was_written_to_it_give_the_same_features(
    write: Any, index: str, tmp_path: Path
) -> None:
    data = frame(index)
    names = open_source(data).schema.names
    assert names == ("a", "b")
    assert open_source(write(data, tmp_path)).schema.names == names


@pytest.mark.parametrize("write", WRITERS)
def test_an_index_that_is_named_is_a_feature_or_a_weight(write: Any, tmp_path: Path) -> None:
    data = write(frame("named"), tmp_path)
    assert open_source(data, options=ReadOptions(columns=("key", "b"))).schema.names == ("key", "b")
    assert open_source(data, weight="key").schema.names == ("a", "b")


def test_an_index_identifies_sequences(tmp_path: Path) -> None:
    path = write_parquet(frame("named"), tmp_path)
    found = open_sequences(path, sequence_column="key")
    assert (found.n_sequences, found.schema.names) == (4, ("a", "b"))
    hmm = GaussianHMM(1, random_state=0).fit(path, sequence_column="key")
    assert list(hmm.feature_names_in_) == ["a", "b"]


def test_text_in_an_index_is_no_category(tmp_path: Path) -> None:
    path = write_parquet(frame("text"), tmp_path)
    assert open_source(path, options=ReadOptions(categories="text")).schema.names == ("a", "b")


@pytest.mark.parametrize("drop", ["polars", "pyarrow"])
@pytest.mark.parametrize("name", ["__index_level_0__", "__null_dask_index__"])
def test_reserved_names_are_left_out_where_the_metadata_are_gone(drop: str, name: str, tmp_path: Path) -> None:
    data = frame("dropna").rename_axis(name)
    table = pa.Table.from_pandas(data).replace_schema_metadata(None)
    if drop == "polars":
        pl.DataFrame(table).write_parquet(tmp_path / "x.parquet")
    else:
        pq.write_table(table, tmp_path / "x.parquet")
    assert open_source(str(tmp_path / "x.parquet")).schema.names == ("a", "b")
    read = pl.read_parquet(tmp_path / "x.parquet")
    assert open_source(read).schema.names == ("a", "b")
    for each in (read, read.to_pandas()):
        assert list(GaussianMixture(1).fit(each).feature_names_in_) == ["a", "b"]


@pytest.mark.filterwarnings("ignore")  # of what Dask asks pandas
def test_dask_leaves_its_index_in_the_files(tmp_path: Path) -> None:
    lazy = dd.from_pandas(frame("dropna"), npartitions=2)
    lazy.to_parquet(tmp_path / "x")
    assert open_source(str(tmp_path / "x")).schema.names == open_source(lazy).schema.names == ("a", "b")


@pytest.mark.parametrize("metadata", [b"", b"{", b"[]", b'{"index_columns": 3}', b'{"index_columns": [null, "z"]}'])
def test_nothing_is_dropped_where_no_index_is_known(metadata: bytes, tmp_path: Path) -> None:
    table = pa.table({"key": [1.0, 2.0], "index": [3.0, 4.0]}).replace_schema_metadata({"pandas": metadata})
    pq.write_table(table, tmp_path / "x.parquet")
    assert open_source(str(tmp_path / "x.parquet")).schema.names == ("key", "index")


def test_a_file_of_nothing_but_an_index_says_so(tmp_path: Path) -> None:
    frame("named")[[]].to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SchemaError, match="'key' held the index of a DataFrame: name it with columns="):
        open_source(str(tmp_path / "x.parquet"))


def test_a_model_finds_the_columns_that_it_was_fitted_on(tmp_path: Path) -> None:
    data = frame("dropna")
    path = write_parquet(data, tmp_path)
    of_frame, of_path = GaussianMixture(1).fit(data), GaussianMixture(1).fit(path)
    assert list(of_path.feature_names_in_) == list(of_frame.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(of_frame.score_samples(path), of_path.score_samples(data))
    with_index = GaussianMixture(1).fit(path, columns=["a", "b", "__index_level_0__"])
    assert len(with_index.predict(path)) == len(data)
    assert with_index.n_features_in_ == 3


def arrow_stream(data: pd.DataFrame) -> io.BytesIO:
    table = pa.Table.from_pandas(data)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    sink.seek(0)
    return sink


def json_lines(data: pd.DataFrame) -> io.BytesIO:
    records = pa.Table.from_pandas(data).to_pylist()
    return io.BytesIO("\n".join(json.dumps(record) for record in records).encode())


@pytest.mark.parametrize("kind", ["folder", "arrow", "json", "tables"])
def test_streams_learn_no_index(kind: str, tmp_path: Path) -> None:
    data = frame("dropna")
    streams: dict[str, Any] = {
        "folder": lambda: FolderStream(write_folder(data, tmp_path), follow=False),
        "arrow": lambda: arrow_stream(data),
        "json": lambda: json_lines(data),
        "tables": lambda: iter([pa.Table.from_pandas(data)]),
    }
    gm = GaussianMixture(1, random_state=0)
    gm.fit_stream(streams[kind](), batch_rows=20)
    assert list(gm.feature_names_in_) == ["a", "b"]


def test_the_command_line_learns_no_index(tmp_path: Path) -> None:
    path, model = write_parquet(frame("dropna"), tmp_path), str(tmp_path / "m.npz")
    done = CliRunner().invoke(main, ["fit", "gmm", path, "-k", "1", "-o", model])
    assert done.exit_code == 0, done.output
    assert list(GaussianMixture.load(model).feature_names_in_) == ["a", "b"]
