"""Folders whose metadata say which rows count are not read as the files that lie in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianHMM, GaussianMixture, open_sequences, open_source
from streamem.cli.main import main
from streamem.core.errors import MissingDependencyError, SourceError, StreamError
from streamem.streams.folder import FolderStream

READERS = {
    "delta": ("Delta Lake", "the table itself, '{root}', or deltalake.DeltaTable('{root}', version=…)"),
    "iceberg": ("Apache Iceberg", "the table itself, '{root}', or pyiceberg.table.StaticTable.from_metadata("),
    "hudi": ("Apache Hudi", "hudi.HudiTableBuilder.from_base_uri('{root}').build().read()"),
}


def rows(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": np.arange(20.0), "b": np.arange(20.0) % 3}), path)
    return path


def table(kind: str, root: Path) -> Path:
    """As these formats lay them out; the data file is returned."""
    marker = {
        "delta": "_delta_log/00000000000000000000.json",
        "iceberg": "metadata/00002-a7cd8a60.metadata.json",
        "hudi": ".hoodie/hoodie.properties",
    }[kind]
    (root / marker).parent.mkdir(parents=True)
    (root / marker).write_text("{}")
    return rows(root / ("data/day=1/x.parquet" if kind == "iceberg" else "day=1/x.parquet"))


GIVEN: dict[str, Callable[[Path], Any]] = {
    "the table": lambda file: str(file.parents[2] if file.parent.parent.name == "data" else file.parents[1]),
    "a partition": lambda file: str(file.parent),
    "a file": lambda file: str(file),
    "what it lies in": lambda file: str(file.parents[3] if file.parent.parent.name == "data" else file.parents[2]),
    "a dataset": lambda file: ds.dataset(file.parent.parent),
    "a dataset of files": lambda file: ds.dataset([str(file)]),
    "a filtered dataset": lambda file: ds.dataset(file.parent.parent).filter(ds.field("a") > 3),
    "a union": lambda file: ds.dataset([ds.dataset(file.parent), ds.dataset(file.parent)]),
    "an fsspec dataset": lambda file: ds.dataset(str(file.parent), filesystem=fsspec.filesystem("file")),
    "a URL": lambda file: f"file://{file}",
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", READERS)
def test_a_table_is_refused_with_the_line_that_reads_it(kind: str, given: str, tmp_path: Path) -> None:
    root = tmp_path / "lake" / "t"
    data = GIVEN[given](table(kind, root))
    name, line = READERS[kind]
    if given == "the table" and kind != "hudi":  # which is read, by its own library, and these have no metadata
        with pytest.raises((SourceError, MissingDependencyError), match=f"{kind.capitalize()} table {root}"):
            open_source(data)
        return
    with pytest.raises(SourceError, match=f"{name}.*{re.escape(line.format(root=root))}"):
        open_source(data)


@pytest.mark.parametrize("kind", READERS)
def test_whoever_reads_a_path_is_refused(kind: str, tmp_path: Path) -> None:
    table(kind, tmp_path / "t")
    name, path, model = READERS[kind][0], str(tmp_path), str(tmp_path / "m.npz")
    fitted = GaussianMixture(1).fit(np.arange(20.0).reshape(10, 2))
    for call in (
        lambda: GaussianMixture(1).fit(path),
        lambda: fitted.predict(path),
        lambda: open_sequences(path, sequence_column="b"),
        lambda: GaussianHMM(1).fit(path),
    ):
        with pytest.raises(SourceError, match=name):
            call()
    done = CliRunner().invoke(main, ["fit", "gmm", path, "-k", "1", "-o", model])
    assert done.exit_code == 1
    assert name in done.output


@pytest.mark.parametrize("part", [".", "day=1"])
@pytest.mark.parametrize("kind", READERS)
def test_a_folder_stream_refuses_a_table(kind: str, part: str, tmp_path: Path) -> None:
    file = table(kind, tmp_path)
    with pytest.raises(StreamError, match=f"{READERS[kind][0]}.*iterator of its record batches"):
        FolderStream(file.parents[1] / part)


@pytest.mark.parametrize("kind", READERS)
def test_a_folder_stream_notices_a_table_that_appears_below_it(kind: str, tmp_path: Path) -> None:
    rows(tmp_path / "plain" / "x.parquet")
    messages = FolderStream(tmp_path).messages({})
    assert next(messages) is not None
    table(kind, tmp_path / "new")
    with pytest.raises(StreamError, match=READERS[kind][0]):
        list(messages)


def test_a_link_into_a_table_is_refused(tmp_path: Path) -> None:
    file = table("delta", tmp_path / "t")
    (tmp_path / "x.parquet").symlink_to(file)
    with pytest.raises(SourceError, match="Delta Lake"):
        open_source(str(tmp_path / "x.parquet"))


def test_a_table_without_parquet_files_is_named(tmp_path: Path) -> None:
    table("hudi", tmp_path).unlink()
    with pytest.raises(SourceError, match="Apache Hudi"):
        open_source(str(tmp_path))


def test_what_the_library_of_a_table_made_is_read(tmp_path: Path) -> None:
    # deltalake's datasets name their files below the table, on a file system of their own.
    file = table("delta", tmp_path)
    inside = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    assert open_source(ds.dataset([str(file.relative_to(tmp_path))], filesystem=inside)).n_rows == 20
    assert open_source(lambda: pq.read_table(file).to_reader()).n_rows == 20


def test_metadata_of_something_else_is_no_table(tmp_path: Path) -> None:
    file = rows(tmp_path / "data" / "x.parquet")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "readme.json").write_text("{}")
    (tmp_path / "_SUCCESS").write_text("")
    assert open_source(str(tmp_path)).n_rows == open_source(str(file)).n_rows == 20


def hidden(folder: Path) -> None:
    """Files that writers leave, and a partition whose key begins with a line."""
    rows(folder / "_key=1" / "x.parquet")
    rows(folder / "_temporary" / "0" / "x.parquet")
    rows(folder / ".tmp" / "x.parquet")
    (folder / "_key=1" / ".x.parquet.crc").write_bytes(b"crc")
    (folder / "_metadata").write_bytes(b"PAR1")


def test_hidden_names_are_no_data_but_partitions_are(tmp_path: Path) -> None:
    hidden(tmp_path)
    assert open_source(str(tmp_path)).n_rows == 20
    read = [message for message in FolderStream(tmp_path, follow=False).messages({}) if message is not None]
    assert [message.after["done"] for message in read] == [["_key=1/x.parquet"]]
