"""Dead letters and histories at addresses of stores: each line once, across crashes; refused before the first read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from helpers.forked import Forked
from helpers.object_server import SECRET, ObjectServer
from helpers.seaweed import seaweed
from streamem import Address, GaussianMixture
from streamem.appending import read_appended
from streamem.cli import main
from streamem.core import stored_objects
from streamem.core.errors import OutputError, PoisonError, SourceError, WriterConflictError
from streamem.core.stored_objects import delete, get, names_below, put, size_of
from streamem.online import append_only_objects
from streamem.online.append_only_objects import StoredStream
from streamem.plots.history import history_table

N, BATCH = 1200, 100
SCHEMA = pa.schema([("a", pa.int64()), ("text", pa.string())])
PARTS = ["part-00000000000000000000.arrows"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A bucket of SeaweedFS, a real server."""
    with seaweed(tmp_path_factory.mktemp("weed")) as address:
        yield address


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    pytest.importorskip("obstore")
    with ObjectServer().running() as server:
        yield server


@pytest.fixture(params=["memory", "s3", pytest.param("seaweed", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest) -> Iterator[Address]:
    if request.param == "seaweed":
        yield request.getfixturevalue("bucket").below(f"{zlib.crc32(request.node.name.encode()):08x}")
    elif request.param == "s3":
        server = request.getfixturevalue("server")
        yield Address(server.address("live"), server.storage_options)
    else:
        yield Address("memory://live")
        if MemoryFileSystem().exists("/live"):
            MemoryFileSystem().rm("/live", recursive=True)


def rows() -> Any:
    """Every hundredth is unusable."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N, 2)) + 4.0 * rng.integers(2, size=(N, 1))
    x[50::100, 0] = np.nan
    return x


def batches() -> Iterator[Any]:
    return iter(np.array_split(rows(), N // 40))


def learned(folder: Any, **settings: Any) -> GaussianMixture:
    """With all three files in a folder, which is an address or a path."""
    told = {name: _in(folder, f"{name}.arrows") for name in ("dead_letter", "history")}
    told |= {"checkpoint": _in(folder, "live.npz"), "batch_rows": BATCH, "poison_limit": 0.1, **settings}
    return GaussianMixture(2, random_state=0).fit_stream(batches, **told)


def _in(folder: Any, name: str) -> Any:
    return folder.below(name) if isinstance(folder, Address) else folder / name


def lines(folder: Any) -> list[list[dict[str, Any]]]:
    return [read_appended(_in(folder, f"{name}.arrows")).to_pylist() for name in ("dead_letter", "history")]


# --- a model on a stream ---------------------------------------------------------------------------------------------


def test_the_lines_are_those_of_files(folder: Address, tmp_path: Path) -> None:
    learned(tmp_path)
    model = learned(folder, save_every_s=0.0)
    assert lines(folder) == lines(tmp_path)
    assert [len(found) for found in lines(folder)] == [12, 12]
    assert names_below(folder.below("history.arrows")) == PARTS  # small parts grow; they are not as many as saves
    assert history_table(folder.below("history.arrows")).num_rows == 12
    again = learned(folder)
    assert again.means_.tobytes() == model.means_.tobytes()
    assert lines(folder) == lines(tmp_path)
    checkpoint = get(folder.below("live.npz")) or b""
    assert SECRET.encode() not in checkpoint
    assert sorted(names_below(folder)) == sorted(
        ["live.npz", "live.npz.1", "live.npz.2", *(f"{name}.arrows/{PARTS[0]}" for name in ("dead_letter", "history"))]
    )


def moments(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bytes]]:
    """Gets what the store holds before each write: what a process that is killed there leaves, since it keeps nothing
    elsewhere."""
    found: list[dict[str, bytes]] = []
    for module in (append_only_objects, stored_objects):
        written = module.put_after

        def noted(*told: Any, written: Any = written) -> Any:
            found.append(dict(server.objects))
            return written(*told)

        monkeypatch.setattr(module, "put_after", noted)
    return found


def test_killed_before_any_write_no_line_is_lost_or_there_twice(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Address(server.address("live"), server.storage_options)
    whole = learned(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(append_only_objects, "PART_NBYTES", 2000)  # some saves begin a part, most write one again
        found = moments(server, patch)
        learned(folder, save_every_s=0.0)
        written = len(found)
        patch.setattr(append_only_objects, "PART_NBYTES", 1200)
        for left in found[: written : written // 12]:
            server.objects = dict(left)
            resumed = learned(folder, save_every_s=600.0)
            assert resumed.means_.tobytes() == whole.means_.tobytes()
            assert lines(folder) == lines(tmp_path)
    assert written > 36  # of 12 saves with three files each


def learn_slowly(folder: Address) -> None:
    """With time to be killed in."""

    def slowly() -> Iterator[Any]:
        for batch in batches():
            sleep(0.02)
            yield batch

    told = {name: folder.below(f"{name}.arrows") for name in ("dead_letter", "history")}
    told["checkpoint"] = folder.below("live.npz")
    GaussianMixture(2, random_state=0).fit_stream(slowly, batch_rows=BATCH, poison_limit=0.1, save_every_s=0.0, **told)


@pytest.mark.slow
def test_killed_by_a_signal_on_a_real_server(bucket: Address, tmp_path: Path) -> None:
    folder, killed = bucket.below("killed"), 0
    whole = learned(tmp_path)
    part, end = folder.below("history.arrows", PARTS[0]), monotonic() + 120
    for _ in range(3):
        before, child = size_of(part), Forked(learn_slowly, folder)
        while child.returncode is None and size_of(part) in (before, None):
            assert monotonic() < end
            sleep(0.005)
        child.kill()
        child.communicate()
        killed += child.returncode == -9
    assert killed == 3
    resumed = learned(folder, save_every_s=0.0)
    assert resumed.means_.tobytes() == whole.means_.tobytes()
    assert lines(folder) == lines(tmp_path)


def test_what_is_of_no_model_is_set_aside(folder: Address, caplog: pytest.LogCaptureFixture) -> None:
    stream = StoredStream(folder.below("history.arrows"), SCHEMA)
    stream.append({"a": [1], "text": ["of another run"]})
    stream.close()
    learned(folder)
    assert read_appended(folder.below("history.arrows.1")).to_pylist() == [{"a": 1, "text": "of another run"}]
    assert "of a run without a checkpoint; it is kept as" in caplog.text
    assert lines(folder)[1][0]["rows"] == 100


def test_what_ended_a_call_is_written(folder: Address) -> None:
    with pytest.raises(PoisonError):
        learned(folder, poison_limit=0.0, checkpoint=None)
    assert len(lines(folder)[0]) >= 1


def test_who_may_not_write_is_told_before_the_first_read(server: ObjectServer, tmp_path: Path) -> None:
    folder, read = Address(server.address("live"), server.storage_options), []

    def counted() -> Iterator[Any]:
        for batch in batches():
            read.append(len(batch))
            yield batch

    told: dict[str, Any] = {"dead_letter": folder.below("a"), "history": folder.below("b"), "poison_limit": 0.1}
    GaussianMixture(2).fit_stream(counted, checkpoint=tmp_path / "live.npz", until=600, **told)
    server.readonly = True
    before = len(read), dict(server.objects)
    for name in ("dead_letter", "history"):
        for checkpoint in ("live.npz", "new.npz"):
            with pytest.raises(OutputError, match="403") as caught:
                GaussianMixture(2).fit_stream(counted, **{name: told[name], "checkpoint": tmp_path / checkpoint})
            assert SECRET not in str(caught.value)
    assert (len(read), server.objects) == before


def test_a_second_reader_ends_before_the_model_is_overwritten(server: ObjectServer) -> None:
    folder = Address(server.address("live"), server.storage_options)
    learned(folder, until=300)

    def meddled(update: Any) -> None:
        if update.rows == 400:
            learned(folder, until=200, save_every_s=0.0)

    model = GaussianMixture(2, random_state=0).on_update(meddled)
    told = {name: folder.below(f"{name}.arrows") for name in ("dead_letter", "history")}
    with pytest.raises(WriterConflictError, match=r"history.*written by another process|dead_letter.*written by"):
        model.fit_stream(
            batches, checkpoint=folder.below("live.npz"), batch_rows=BATCH, save_every_s=600, poison_limit=0.1, **told
        )
    assert [line["rows"] for line in lines(folder)[1]] == [100, 200, 300, 400, 500]
    learned(folder)
    assert [line["rows"] for line in lines(folder)[1]] == [*range(100, 1101, 100), 1188]


def test_on_the_command_line(server: ObjectServer, tmp_path: Path) -> None:
    """Its model, dead letters and history in a store; shown, and drawn on a page."""
    folder = server.address("live")
    (tmp_path / "x.jsonl").write_text("".join(f"{row}\n" for row in rows().tolist()).replace("nan", '"nan?"'))
    store = [f"--storage-option={name}={value}" for name, value in server.storage_options.items()]
    places = ["--dead-letter", f"{folder}/bad.arrows", "--history", f"{folder}/history.arrows", "--poison-limit", "0.1"]
    command = ["update", f"{folder}/live.npz", str(tmp_path / "x.jsonl"), "-k", "2", "--seed", "0", *places, *store]
    for told in ("1,188 rows learned", "nothing new"):
        done = CliRunner().invoke(main, command)
        assert told in done.output
    assert read_appended(Address(f"{folder}/bad.arrows", server.storage_options)).num_rows == 12
    shown = CliRunner().invoke(main, ["show", f"{folder}/live.npz", *store])
    assert "1,188 rows" in shown.output
    page = ["report", f"{folder}/live.npz", "-o", str(tmp_path / "page.html"), "--history", f"{folder}/history.arrows"]
    written = CliRunner().invoke(main, [*page, *store])
    assert written.exit_code == 0, written.output
    assert "What the stream taught" in (tmp_path / "page.html").read_text()
    assert SECRET not in (tmp_path / "page.html").read_text() + done.output


# --- parts -----------------------------------------------------------------------------------------------------------


def filled(address: Address, count: int, start: int = 0, nbytes: int | None = None) -> tuple[StoredStream, list[int]]:
    """So many lines, each saved, and the lengths behind them."""
    stream, lengths = StoredStream(address, SCHEMA, nbytes), []
    for i in range(start, start + count):
        stream.append({"a": [i], "text": ["x" * 100]})
        stream.sync()
        lengths.append(stream.length)
    return stream, lengths


def numbers(address: Address) -> list[int]:
    return list(read_appended(address)["a"].to_pylist())


def test_parts_are_cut_back_anywhere(folder: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_only_objects, "PART_NBYTES", 1000)
    address = folder.below("lines")
    _, lengths = filled(address, 12)
    parts = names_below(address)
    assert 3 <= len(parts) < 12
    assert numbers(address) == list(range(12))
    for kept in (11, 9, 8, 5, 1):
        _, more = filled(address, 2, kept, lengths[kept - 1])
        assert numbers(address) == list(range(kept + 2))
        lengths[kept : kept + 2] = more
    assert StoredStream(address, SCHEMA, 0).length == 0
    assert numbers(address) == []
    assert names_below(address) == PARTS


def test_lengths_are_bounded_and_large_batches_are_cut(folder: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_only_objects, "PART_NBYTES", 1000)
    monkeypatch.setattr(append_only_objects, "PIECE_NBYTES", 2000)
    stream = StoredStream(folder.below("lines"), SCHEMA, limit=20_000)
    stream.append({"a": list(range(100)), "text": ["x" * 100] * 100})
    with pytest.raises(OutputError, match="would exceed its limit of 20000"):
        stream.append({"a": list(range(100)), "text": ["x" * 100] * 100})
    stream.close()
    assert numbers(folder.below("lines")) == list(range(100))
    sizes = [len(get(folder.below("lines", name)) or b"") for name in names_below(folder.below("lines"))]
    assert len(sizes) >= 4
    assert max(sizes) < 4000


def test_parts_that_were_changed_are_named(folder: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_only_objects, "PART_NBYTES", 500)
    address = folder.below("lines")
    _, lengths = filled(address, 9)
    with pytest.raises(OutputError, match=rf"held {lengths[3] + 1} bytes .* and {lengths[3]} of them now"):
        StoredStream(address, SCHEMA, lengths[3] + 1)
    with pytest.raises(OutputError, match="another Arrow stream, with the columns"):
        StoredStream(address, pa.schema([("b", pa.int64())]))
    second = sorted(names_below(address))[1]
    delete(address.below(second))
    with pytest.raises(SourceError, match=f"{second} is missing"):
        read_appended(address)
    for name in names_below(address):
        delete(address.below(name))
    with pytest.raises(OutputError, match="is empty or gone now"):
        StoredStream(address, SCHEMA, 100)
    with pytest.raises(FileNotFoundError, match="there are no parts"):
        read_appended(address)
    put(address.below(PARTS[0]), b"no Arrow")
    with pytest.raises(SourceError, match="is no Arrow stream"):
        read_appended(address)
    put(folder.below("object"), b"x")
    with pytest.raises(OutputError, match="is an object"):
        StoredStream(folder.below("object"), SCHEMA)


def test_a_part_that_another_removed_is_a_conflict(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on from an earlier save removes what came after: the first notices it at its next save."""
    monkeypatch.setattr(append_only_objects, "PART_NBYTES", 500)
    address = Address(server.address("lines"), server.storage_options)
    first, lengths = filled(address, 2)
    for i in range(2, 12):
        first.append({"a": [i], "text": ["x" * 100]})
    StoredStream(address, SCHEMA, lengths[-1])
    with pytest.raises(WriterConflictError, match="two processes learn the same model"):
        first.sync()
    first.close()
    assert numbers(address) == [0, 1]
