"""What killed processes leave is removed by the next one that writes there; one process writes a file at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from streamem import GaussianHMM, GaussianMixture, open_source
from streamem.core import file_locks, leftovers
from streamem.core.errors import OutputError, ParameterError, PoisonError, WriterConflictError
from streamem.online.append_only_arrow import read_appended
from streamem.sinks import ResultLayout, open_parted_sink

X = np.random.default_rng(0).normal(size=(600, 2)) + np.repeat([[0.0], [5.0]], 300, axis=0)

KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
import streamem.core.archive, streamem.sinks.staging
from streamem import GaussianMixture

folder = Path(sys.argv[1])
x = np.random.default_rng(0).normal(size=(600, 2))
gm = GaussianMixture(2, random_state=0).fit(x)
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
JOBS = {
    "model": lambda: gm.save(folder / "m.npz"),
    "checkpoint": lambda: gm.fit(x, checkpoint=folder / "run.npz"),
    "live": lambda: gm.fit_stream([x], checkpoint=folder / "live.npz"),
    "npy": lambda: gm.predict(x, out=folder / "o.npy"),
    "zarr": lambda: gm.predict(x, out=folder / "o.zarr"),
    "parquet": lambda: gm.predict(x, out=folder / "o.parquet"),
    "replaced": lambda: gm.predict(x, out=folder / "r.zarr", overwrite=True),
}
gm.predict(x, out=folder / "r.zarr")
for name, job in JOBS.items():
    if (pid := os.fork()) == 0:
        streamem.core.archive._install = die
        if name == "replaced":
            rename, calls = os.rename, []
            os.rename = lambda *names: rename(*names) if not calls and not calls.append(1) else die()
        else:
            streamem.sinks.staging._install = die
        job()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, name
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """As if each test were a process of its own."""
    leftovers._LOOKED_AFTER.clear()
    yield
    leftovers._LOOKED_AFTER.clear()


def hidden(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(f".{name}."))


def fitted() -> GaussianMixture:
    return GaussianMixture(2, random_state=0).fit(X)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "m.npz": lambda path: fitted().save(path),
    "run.npz": lambda path: GaussianMixture(2, random_state=0).fit(X, checkpoint=path),
    "live.npz": lambda path: GaussianMixture(2, random_state=0).fit_stream([X], checkpoint=path),
    "o.npy": lambda path: fitted().predict(X, out=path),
    "o.zarr": lambda path: fitted().predict(X, out=path),
    "o.parquet": lambda path: fitted().predict(X, out=path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_next_writer_removes_what_a_killed_one_left(name: str, killed: Path) -> None:
    assert len([left for left in hidden(killed, name) if "partial" in left]) == 1
    WRITERS[name](killed / name)
    assert (killed / name).exists()
    assert hidden(killed, name) == []


def test_a_result_that_was_about_to_be_replaced_comes_back(killed: Path) -> None:
    target = killed / "r.zarr"
    assert not target.exists()
    with pytest.raises(OutputError, match="exists already"):
        fitted().predict(X, out=target)
    assert zarr.open_array(str(target), mode="r").shape == (600,)
    fitted().predict(X, out=target, overwrite=True)
    assert hidden(killed, "r.zarr") == []


def leftover(folder: Path, host: str, pid: int, age_s: float = 3600.0) -> Path:
    path = folder / f".m.npz.{host}-{pid}-0123abcd.partial"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_may_be_in_use_is_left_alone(tmp_path: Path) -> None:
    here, other = leftovers._host(), f"{zlib.crc32(b'another host'):08x}"
    foreign = leftover(tmp_path, other, dead_pid())
    young = leftover(tmp_path, here, os.getppid(), age_s=0.0)
    locked = leftover(tmp_path, here, dead_pid() + 1)
    unlike = tmp_path / ".m.npz.mine.partial"
    unlike.touch()
    with open(locked, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fitted().save(tmp_path / "m.npz")
    assert {path.name for path in (foreign, young, locked, unlike)} == set(hidden(tmp_path, "m.npz"))
    leftovers._LOOKED_AFTER.clear()
    reused = leftover(tmp_path, here, os.getppid(), age_s=3600.0)  # its number belongs to somebody else now
    fitted().save(tmp_path / "m.npz")
    assert {path.name for path in (foreign, unlike)} == set(hidden(tmp_path, "m.npz"))
    assert not reused.exists()


def test_writers_of_this_process_do_not_remove_each_others_files(tmp_path: Path) -> None:
    gm, target = fitted(), tmp_path / "o.npy"
    first = leftovers.partial_folder(target)
    first.mkdir()
    gm.predict(X, out=target)
    assert first.exists()


def test_the_second_fit_on_a_checkpoint_fails_at_once(tmp_path: Path) -> None:
    path, failures = tmp_path / "run.npz", []
    gm = GaussianMixture(2, random_state=0, max_iter=3, tol=0.0)

    def intrude(*_: Any) -> None:
        if not failures:
            for other in (GaussianMixture(2, random_state=0), GaussianHMM(2, random_state=0)):
                with pytest.raises(
                    WriterConflictError, match=rf"{path}.*another fit \(process {os.getpid()}"
                ) as raised:
                    other.fit(X, checkpoint=path)
                failures.append(raised.value)

    from helpers.watched_source import WatchedSource

    with pytest.warns(match="did not converge"):
        gm.fit(WatchedSource(open_source(X), intrude), checkpoint=path)
    assert len(failures) == 2
    assert sorted(os.listdir(tmp_path)) == ["run.npz", "run.npz.1", "run.npz.2"]
    GaussianMixture(2, random_state=0, max_iter=30).fit(X, checkpoint=tmp_path / "again.npz")
    assert not (tmp_path / ".again.npz.lock").exists()


def test_a_lock_that_a_killed_fit_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".run.npz.lock").touch()
    GaussianMixture(2, random_state=0).fit(X, checkpoint=tmp_path / "run.npz")
    assert not (tmp_path / ".run.npz.lock").exists()


def test_a_foreign_lock_on_the_folder_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_locks, "FOLDER_WAIT_S", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=rf"{tmp_path}: process {os.getpid()}, \w.* more than 0.1 s"):
            GaussianMixture(2, random_state=0).fit_stream([X], checkpoint=tmp_path / "live.npz")
    finally:
        os.close(descriptor)
    GaussianMixture(2, random_state=0).fit_stream([X], checkpoint=tmp_path / "live.npz")


def test_a_folder_that_is_free_again_in_time_is_waited_for(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    threading.Timer(0.1, os.close, [descriptor]).start()
    with file_locks.locked_folder(tmp_path, wait_s=30.0):
        pass


def poisoned(n: int) -> Any:
    x = X.copy()
    x[::n, 0] = np.nan
    return x


def test_dead_letters_have_a_limit_and_nothing_is_lost(tmp_path: Path) -> None:
    stream = [poisoned(10)[i : i + 50] for i in range(0, 600, 50)]
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    settings = {"batch_rows": 45, "poison_limit": 0.5, "save_every_s": 0.0}

    def mixture() -> GaussianMixture:
        return GaussianMixture(2, random_state=0)

    whole = mixture().fit_stream(stream, dead_letter=tmp_path / "all.arrows", **settings)
    with pytest.raises(OutputError, match=r"bad.arrows holds \d+ bytes, and \d+ more would exceed its limit of 4096"):
        mixture().fit_stream(stream, dead_letter_limit="4096", **settings, **files)
    assert os.path.getsize(files["dead_letter"]) <= 4096
    some = read_appended(files["dead_letter"]).num_rows
    assert 0 < some < 60
    gm = mixture().fit_stream(stream, dead_letter_limit=None, **settings, **files)
    assert gm.means_.tobytes() == whole.means_.tobytes()
    assert read_appended(files["dead_letter"]).equals(read_appended(tmp_path / "all.arrows"))
    more = {**files, "checkpoint": tmp_path / "new.npz", "dead_letter": tmp_path / "more.arrows"}
    with pytest.raises(ParameterError, match="memory size"):
        mixture().fit_stream(stream, dead_letter_limit="many", **settings, **more)


def test_a_disk_that_is_full_for_dead_letters_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamem.online.live_files import LiveFiles

    stream = [poisoned(100)]
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    bury, calls = LiveFiles.bury, []

    def full(self: Any, poison: Any) -> None:
        calls.append(poison)
        if len(calls) == 3:
            raise OutputError("cannot append: no space left on device")
        bury(self, poison)

    with monkeypatch.context() as patch:
        patch.setattr(LiveFiles, "bury", full)
        with pytest.raises(OutputError, match="no space"):
            GaussianMixture(2, random_state=0).fit_stream(stream, batch_rows=100, **files)
    GaussianMixture(2, random_state=0).fit_stream(stream, batch_rows=100, **files)
    assert read_appended(files["dead_letter"]).num_rows == 6


def test_poison_beyond_the_limit_of_its_file_tells_both(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would exceed its limit") as raised:
        GaussianMixture(2, random_state=0).fit_stream(
            [poisoned(1)], dead_letter=tmp_path / "bad.arrows", dead_letter_limit=1000
        )
    assert isinstance(raised.value.__context__, PoisonError)


def test_parquet_in_parts_leaves_nothing_behind(tmp_path: Path) -> None:
    fitted().predict(X, out=tmp_path / "o.parquet")
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 600
    assert os.listdir(tmp_path) == ["o.parquet"]


@pytest.mark.parametrize(
    ("suffix", "torn"), [("parquet", ".part-00000.parquet.0123abcd"), ("zarr", f"c/0/0.{'0123abcd' * 4}.partial")]
)
def test_halves_of_parts_of_a_killed_worker_are_no_part_of_the_result(suffix: str, torn: str, tmp_path: Path) -> None:
    layout = ResultLayout(600, 2, np.dtype("f8"), ("a", "b"), 300)
    sink = open_parted_sink(tmp_path / f"o.{suffix}", layout)
    for part in sink.parts(300, [0, 300]):
        sink.done(part.first, part.write([X[part.first : part.first + part.rows]]))
    (staged,) = tmp_path.iterdir()
    (staged / torn).write_bytes(b"half")
    sink.commit()
    target = tmp_path / f"o.{suffix}"
    assert not (target / torn).exists()
    assert open_source(target).n_rows == 600
    open_parted_sink(target, layout, overwrite=True).abort()
