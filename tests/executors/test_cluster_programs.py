"""A cluster of the programs `dask scheduler` and `dask worker`, each in a folder of its own; its scheduler killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

from helpers.fit_bits import fitted
from streamem import GaussianMixture
from streamem.core.archive_reading import read_newest
from streamem.core.errors import SchedulerLostError

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]
ROWS, CHUNK_ROWS = 4000, 200
SETTINGS: dict[str, Any] = {
    "n_components": 3,
    "random_state": 0,
    "max_iter": 60,
    "tol": 0.0,
    "chunk_bytes": 8 * 3 * 200,
}


@contextmanager
def programs(folder: Path, n_workers: int = 2) -> Iterator[tuple[Path, list[subprocess.Popen[bytes]]]]:
    """The scheduler's file, and the processes, the scheduler first."""
    file = folder / "scheduler.json"
    commands = [["scheduler", "--port", "0", "--no-dashboard", "--no-jupyter"]]
    commands += [["worker", "--nthreads", "1", "--no-dashboard"]] * n_workers
    running = []
    try:
        for number, command in enumerate(commands):
            (own := folder / f"{number}").mkdir()
            line = [sys.executable, "-m", "dask", *command, "--scheduler-file", str(file)]
            with (folder / f"{number}.log").open("wb") as log:
                running.append(subprocess.Popen(line, cwd=own, stdout=log, stderr=log, start_new_session=True))
        yield file, running
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # workers have nannies and children
            process.wait()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path relative to a folder that no worker is in."""
    rng = np.random.default_rng(0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    x = rng.normal(size=(ROWS, 3)) + 1.5 * rng.integers(3, size=(ROWS, 1))
    zarr.create_array(store="x.zarr", shape=x.shape, chunks=(CHUNK_ROWS, 3), dtype="f8")[:] = x
    return "x.zarr"


def kill_once(process: subprocess.Popen[bytes], it_is_time: Callable[[], bool]) -> None:
    """SIGKILL a process as soon as something has happened."""
    while not it_is_time():
        time.sleep(0.01)
    process.kill()


def newest_iteration(checkpoint: Path) -> int:
    """How far a checkpoint has come; 0 while there is none."""
    return int(read_newest(checkpoint, "checkpoint").arrays["state.iteration"]) if checkpoint.exists() else 0


@pytest.mark.long
@pytest.mark.slow
def test_the_command_line_on_a_cluster_of_programs(data: str, tmp_path: Path) -> None:
    streamem = [sys.executable, "-m", "streamem"]
    with programs(tmp_path) as (file, _):
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)  # a command does not wait for a file that is not there
        where = ["--cluster", str(file)]
        fit = ["fit", "gmm", data, "-k", "3", "--seed", "0", "-o", "model.npz", "--memory", "100MiB"]
        done = subprocess.run([*streamem, *fit, *where], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for out in ("labels.parquet", "labels.zarr"):
            subprocess.run([*streamem, "predict", "model.npz", data, "-o", out, *where], check=True)
    model = GaussianMixture.load("model.npz")
    assert model.report_.setting["workers"] == 2
    assert fitted(model) == fitted(GaussianMixture(3, random_state=0, memory_limit="100MiB").fit(data))
    np.testing.assert_array_equal(zarr.open_array("labels.zarr")[:], model.predict(data))


@pytest.mark.slow
def test_the_scheduler_killed_then_the_same_call_again(data: str, tmp_path: Path) -> None:
    undisturbed = GaussianMixture(**SETTINGS).fit(data)
    with programs(tmp_path, 1) as (file, running), Client(scheduler_file=str(file), set_as_default=False) as client:
        killer = Thread(target=kill_once, args=(running[0], lambda: newest_iteration(Path("run.npz")) >= 3))
        killer.start()
        with pytest.raises(SchedulerLostError, match=r"checkpoint='run.npz' goes on from its last complete"):
            GaussianMixture(**SETTINGS).fit(data, checkpoint="run.npz", executor=client)
        killer.join()
        assert 3 <= newest_iteration(Path("run.npz")) < SETTINGS["max_iter"]
    (again := tmp_path / "again").mkdir()
    with programs(again) as (file, _), Client(scheduler_file=str(file), set_as_default=False) as client:
        resumed = GaussianMixture(**SETTINGS).fit(data, checkpoint="run.npz", executor=client)
    assert len(resumed.report_.passes) == len(undisturbed.report_.passes)
    assert fitted(resumed) == fitted(undisturbed)
