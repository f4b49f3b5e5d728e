"""Streams that hold less than was learned of them: an error that says so, not "nothing new" and no endless wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamem import GaussianMixture
from streamem.core.errors import StreamError
from streamem.streams.byte_stream import ByteStream
from streamem.streams.folder import FolderStream
from streamem.streams.iterator import IteratorStream

X = np.random.default_rng(0).normal(size=(100, 2))


def write_lines(path: Path, rows: Any) -> None:
    path.write_bytes(b"".join(json.dumps({"a": a, "b": b}).encode() + b"\n" for a, b in rows.tolist()))


def write_arrow(path: Path, rows: Any) -> None:
    table = pa.table({"a": rows[:, 0], "b": rows[:, 1]})
    with pa.ipc.new_stream(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=10)


@pytest.mark.parametrize("write", [write_lines, write_arrow])
def test_a_file_that_was_cut(tmp_path: Path, write: Any) -> None:
    path, files = tmp_path / "x", {"checkpoint": tmp_path / "live.npz"}
    write(path, X[:60])
    gm = GaussianMixture(1).fit_stream(path, batch_rows=20, **files)
    write(path, X[60:])  # what a rotated log looks like
    with pytest.raises(StreamError, match=r"file:.*x ends after 40 records, and 60 of it were learned: it was cut"):
        GaussianMixture(1).fit_stream(path, batch_rows=20, **files)
    with pytest.raises(StreamError, match="ends after 40 records"):
        GaussianMixture(1).fit_stream(ByteStream(path, replayed=True), batch_rows=20, **files)
    write(path, X)
    assert gm.fit_stream(path, batch_rows=20, **files).report_.n_rows == 100


def test_fewer_items_than_were_learned(tmp_path: Path) -> None:
    files = {"checkpoint": tmp_path / "live.npz"}
    GaussianMixture(1).fit_stream([X[:40], X[40:60]], batch_rows=20, **files)
    with pytest.raises(
        StreamError, match="the iterator ends after 1 items, and 2 of it were learned: pass all of them"
    ):
        GaussianMixture(1).fit_stream([X[60:]], batch_rows=20, **files)
    gm = GaussianMixture(1).fit_stream(IteratorStream([X[60:]], "monday"), batch_rows=20, **files)
    assert gm.report_.n_rows == 100


def test_a_file_of_a_folder_with_fewer_row_groups(tmp_path: Path) -> None:
    """It would be looked at again and again."""
    folder = tmp_path / "x"
    folder.mkdir()
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    pq.write_table(table, folder / "one.parquet", row_group_size=20)
    files = {"checkpoint": tmp_path / "live.npz"}
    GaussianMixture(1).fit_stream(FolderStream(folder, follow=False), batch_rows=20, until=60, **files)
    pq.write_table(table, folder / "one.parquet", row_group_size=50)
    with pytest.raises(
        StreamError, match=r"of the file one.parquet, 3 row groups were learned .*now it has 2: it was re"
    ):
        GaussianMixture(1).fit_stream(FolderStream(folder, follow=False), batch_rows=20, **files)


def test_a_file_of_a_folder_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """An error at once: nobody takes it for one that is not complete yet."""
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=20)
    messages = FolderStream(tmp_path, follow=False).messages({})
    next(messages)
    pq.write_table(table[:50], tmp_path / "one.parquet", row_group_size=20)
    with pytest.raises(StreamError, match="one.parquet was rewritten while it was read"):
        next(messages)
