"""Sinks: what was written, complete, under its name; or nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from streamem.core.errors import OutputError, ParameterError
from streamem.core.ports import Sink
from streamem.sinks import ResultLayout, open_sink, opening

SUFFIXES = [".zarr", ".parquet", ".npy"]
Array = np.ndarray[Any, Any]


def read(path: Path, width: int | None) -> Array:
    """What a reader who knows nothing of streamem finds."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(path), mode="r")[...])
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    assert all(column.null_count == 0 for column in table.columns)
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if width is None else np.column_stack(columns)


def open_for(path: Path, values: Array, chunk_rows: int = 100, overwrite: bool = False) -> Sink:
    width = None if values.ndim == 1 else values.shape[1]
    names = [f"column {index}" for index in range(width or 1)]
    return open_sink(path, ResultLayout(len(values), width, values.dtype, tuple(names), chunk_rows), overwrite)


def save(path: Path, values: Array, cuts: tuple[int, ...] = (), **options: Any) -> Path:
    sink = open_for(path, values, **options)
    for part in np.split(values, cuts):
        sink.write(part)
    sink.commit()
    return path


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"result{request.param}"


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("width", [None, 1, 3])
def test_values_come_back(path: Path, dtype: str, width: int | None) -> None:
    shape = (250,) if width is None else (250, width)
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    save(path, values, cuts=(1, 101, 101, 230))
    found = read(path, width)
    assert found.dtype == values.dtype
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("width", [None, 2])
def test_no_rows(path: Path, width: int | None) -> None:
    values = np.zeros((0,) if width is None else (0, width))
    save(path, values)
    assert read(path, width).shape == values.shape


def test_nan_and_infinity_stay(path: Path) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0])
    save(path, values)
    assert read(path, None).tobytes() == values.tobytes()


def test_content_does_not_depend_on_the_cuts(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3))
    whole = save(path, values)
    cut = save(path.with_stem("cut"), values, cuts=(7, 7, 333, 999))
    assert content(whole) == content(cut)


def test_narrower_values_are_cast(path: Path) -> None:
    sink = open_for(path, np.zeros(4, dtype=np.float32))
    sink.write(np.array([0.1, 0.2]))
    sink.write(np.array([3, 4], dtype=np.int8))
    sink.commit()
    assert read(path, None).tolist() == np.array([0.1, 0.2, 3, 4], dtype=np.float32).tolist()


def test_reused_arrays_may_change(path: Path) -> None:
    sink = open_for(path, np.zeros((200, 2)))
    buffer = np.ones((100, 2), order="F")
    sink.write(buffer)
    buffer[:] = 2
    sink.write(buffer)
    sink.commit()
    assert read(path, 2).sum() == 600


def test_names_and_chunks_of_zarr(tmp_path: Path) -> None:
    save(tmp_path / "a.zarr", np.zeros((250, 2)))
    array = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert array.metadata.zarr_format == 3
    assert array.chunks == (100, 2)
    assert array.attrs["names"] == ["column 0", "column 1"]
    assert {f"c/{index}/0" for index in range(3)} < set(content(tmp_path / "a.zarr"))


def test_flipped_bit_in_zarr_is_found(tmp_path: Path) -> None:
    save(tmp_path / "a.zarr", np.random.default_rng(0).normal(size=100))
    chunk = tmp_path / "a.zarr" / "c" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(RuntimeError, match="checksum"):
        read(tmp_path / "a.zarr", None)


def test_names_and_row_groups_of_parquet(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", np.zeros((2**16 + 1, 64)))
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert metadata.schema.names == [f"column {index}" for index in range(64)]
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [2**16, 1]


# --- complete or absent -------------------------------------------------------------------------------------


def test_nothing_is_visible_before_commit(path: Path) -> None:
    values = np.ones((250, 2))
    sink = open_for(path, values)
    sink.write(values)
    assert not path.exists()
    assert all(
        re.fullmatch(rf"\.{path.name}\.partial-\w+-{os.getpid()}-\w+", entry.name) for entry in path.parent.iterdir()
    )
    sink.abort()
    assert list(path.parent.iterdir()) == []


def test_abort_twice_and_use_afterwards(path: Path) -> None:
    sink = open_for(path, np.ones(3))
    sink.abort()
    sink.abort()
    with pytest.raises(OutputError, match="this sink has aborted; open another one"):
        sink.write(np.ones(3))


def test_abort_after_commit_keeps_the_result(path: Path) -> None:
    sink = open_for(path, np.ones(3))
    sink.write(np.ones(3))
    sink.commit()
    sink.abort()
    assert read(path, None).tolist() == [1, 1, 1]
    with pytest.raises(OutputError, match="this sink has committed"):
        sink.commit()


def test_rows_must_be_as_announced(path: Path) -> None:
    sink = open_for(path, np.ones(3))
    sink.write(np.ones(2))
    with pytest.raises(OutputError, match="2 of 3 rows were written"):
        sink.commit()
    with pytest.raises(OutputError, match="4 rows were written, but 3 were announced"):
        sink.write(np.ones(2))
    sink.write(np.ones(1))
    sink.commit()
    assert len(read(path, None)) == 3


@pytest.mark.parametrize("values", [np.ones(2), np.ones((2, 3)), np.array(1.0), np.array([["a", "b"]])])
def test_rows_must_fit(path: Path, values: Array) -> None:
    sink = open_for(path, np.ones((3, 2)))
    with pytest.raises(ParameterError, match=r"takes rows of shape \(2,\)|takes float64, and <U1"):
        sink.write(values)
    sink.abort()


@pytest.mark.parametrize("values", [np.ones(2), np.ones(2, dtype=np.int64)])
def test_integers_are_never_cut(path: Path, values: Array) -> None:
    sink = open_for(path, np.ones(2, dtype=np.int32))
    with pytest.raises(ParameterError, match=f"takes int32, and {values.dtype} does not cast"):
        sink.write(values)
    sink.abort()


def test_existing_target_is_refused_at_once(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already; choose another name, or pass overwrite=True"):
        open_for(path, np.ones(3))
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


def test_target_that_appears_meanwhile_is_kept(path: Path) -> None:
    sink = open_for(path, np.ones(3))
    sink.write(np.ones(3))
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        sink.commit()
    sink.abort()
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", ["result", "file", "store", "link"])
def test_overwrite_replaces_on_commit(path: Path, old: str) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    make: dict[str, Callable[[], Any]] = {
        "result": lambda: save(path, np.zeros(500)),
        "file": lambda: path.write_text("old"),
        "store": lambda: (path.mkdir(), (path / "zarr.json").write_text("{}")),
        "link": lambda: path.symlink_to(elsewhere),
    }
    make[old]()
    before = content(path)
    sink = open_for(path, np.ones(3), overwrite=True)
    sink.write(np.ones(3))
    assert content(path) == before
    sink.commit()
    assert read(path, None).tolist() == [1, 1, 1]
    assert sorted(path.parent.iterdir()) == sorted([path, elsewhere])


def test_overwrite_never_replaces_a_folder_that_is_no_store(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder but no Zarr store"):
        open_for(path, np.ones(3), overwrite=True)
    assert (path / "thesis.txt").read_text() == "years of work"


def test_overwrite_then_abort_keeps_the_old(path: Path) -> None:
    save(path, np.zeros(500))
    before = content(path)
    sink = open_for(path, np.ones(3), overwrite=True)
    sink.write(np.ones(3))
    sink.abort()
    assert content(path) == before
    assert list(path.parent.iterdir()) == [path]


def test_failed_rename_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.zarr", np.zeros(500))
    before, rename = content(path), os.rename

    def fail(source: Any, destination: Any) -> None:
        if ".partial-" in Path(source).name:
            raise PermissionError(13, "Permission denied")
        rename(source, destination)

    sink = open_for(path, np.ones(3), overwrite=True)
    sink.write(np.ones(3))
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OutputError, match=r"cannot write .*Permission denied"):
        sink.commit()
    sink.abort()
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_synced_before_visible(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert path.exists() == (synced[-1] == str(path.parent))
        fsync(descriptor)

    sink = open_for(path, np.ones(250))
    sink.write(np.ones(250))
    monkeypatch.setattr(os, "fsync", record)
    sink.commit()
    names = {Path(name).name for name in synced}
    assert synced[-1] == str(path.parent)
    assert any(name.startswith(f".{path.name}.partial-") for name in names)
    assert path.is_file() or {"zarr.json", "c", "0", "1", "2"} <= names


# --- arguments ----------------------------------------------------------------------------------------------


def test_unknown_suffix_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"can be written to \.zarr, \.parquet, \.npy"):
        open_for(tmp_path / "a.csv", np.ones(3))


def test_missing_folder(path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*absent; create it first"):
        open_for(path.parent / "absent" / path.name, np.ones(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": -1},
        {"width": 0},
        {"chunk_rows": 0},
        {"dtype": object},
        {"dtype": "U3"},
        {"dtype": np.longdouble},
        {"names": ("a",)},
        {"names": ("a", "a")},
    ],
)
def test_layout_that_cannot_be(path: Path, changes: dict[str, Any]) -> None:
    arguments = {"rows": 3, "width": 2, "dtype": "f8", "names": ["a", "b"], "chunk_rows": 10, **changes}
    with pytest.raises(ParameterError):
        open_sink(path, ResultLayout(**arguments))
    assert list(path.parent.iterdir()) == []


def test_libraries_are_imported_on_first_use() -> None:
    heavy = ("zarr", "pyarrow")
    script = f"import sys, streamem.sinks; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert set(opening.SINKS) == set(SUFFIXES)


# --- faults -------------------------------------------------------------------------------------------------

SCRIPT = """
import json, os, resource, signal, sys
from pathlib import Path
import numpy as np
from streamem.core.errors import OutputError
from streamem.sinks import ResultLayout, open_sink

path, fault, overwrite = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "overwrite"
values = np.random.default_rng(0).normal(size=(300_000, 2))
sink = open_sink(
    path, ResultLayout(rows=600_000, width=2, dtype="f8", names=["a", "b"], chunk_rows=200_000), overwrite
)
if fault == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000,) * 2)
    try:
        sink.write(values)
        sink.write(values)
        sink.commit()
    except OutputError as error:
        text = str(error)
    try:
        sink.commit()
    except OutputError as error:
        again = str(error)
    sink.abort()
    print(json.dumps([text, again]))
    sys.exit()
sink.write(values)
if fault == "rename":
    os.replace = os.rename = lambda source, destination: os._exit(17)
    sink.write(values)
    sink.commit()
os._exit(17)
"""


def run(path: Path, fault: str, overwrite: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path), fault, overwrite]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("fault", ["killed", "rename"])
def test_killed_writer_leaves_nothing_under_the_name(path: Path, fault: str) -> None:
    done = run(path, fault)
    assert (done.returncode, done.stderr) == (17, "")
    assert [entry.name.startswith(f".{path.name}.partial-") for entry in path.parent.iterdir()] == [True]
    save(path, np.ones(3))
    assert read(path, None).tolist() == [1, 1, 1]


@pytest.mark.parametrize("fault", ["killed", "rename"])
def test_killed_writer_leaves_the_old_result(path: Path, fault: str) -> None:
    before = content(save(path, np.ones(3)))
    assert run(path, fault, "overwrite").returncode == 17
    assert content(path) == before


def test_full_disk_is_an_error_and_leaves_nothing(path: Path) -> None:
    done = run(path, "full")
    assert (done.returncode, done.stderr) == (0, "")
    text, again = json.loads(done.stdout)
    assert f"cannot write {path}: " in text
    assert "File too large" in text
    assert "this sink has failed" in again
    assert list(path.parent.iterdir()) == []
