"""Workers that cannot import what the work is made of, or have other versions: named, never waited for in silence."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.comm import CommClosedError

from helpers import watched_source
from helpers.fit_bits import fitted
from helpers.watched_source import Countdown, open_data
from streamem import GaussianHMM, GaussianMixture
from streamem.core.errors import ClusterError
from streamem.estimators.making import model_of
from streamem.executors import able_workers
from streamem.executors.dask import DaskExecutor
from streamem.running.fit import EStep

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]
REMEDY = r"cannot import .*No module named 'streamem'.* Install streamem \d.*PipInstall"

HOOK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "streamem":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
OWN = """
from __future__ import annotations
from dataclasses import dataclass

def watch(ref):
    pass

"""
ROWS, CHUNK_BYTES = 3000, 2400
SETTINGS: dict[str, Any] = {"random_state": 0, "max_iter": 1, "init_params": "random_from_data"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and what makes a worker's Python unable to import streamem."""
    folder = tmp_path_factory.mktemp("imports")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(ROWS, 2)))
    (folder / "blocked").mkdir()
    (folder / "blocked" / "sitecustomize.py").write_text(HOOK)
    return folder


@contextmanager
def workers(client: Client, *python_paths: object) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One more worker for each PYTHONPATH, each a program of its own."""
    line = [
        sys.executable,
        "-m",
        "dask",
        "worker",
        client.scheduler.address,
        "--no-nanny",
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    there = len(client.nthreads())
    running = [
        subprocess.Popen(
            [*line, "--no-dashboard"], env={**os.environ, "PYTHONPATH": str(path)}, stderr=subprocess.DEVNULL
        )
        for path in python_paths
    ]
    try:
        client.wait_for_workers(there + len(running), timeout=60)
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


@contextmanager
def empty_cluster() -> Iterator[Client]:
    """A cluster without workers."""
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def unable(folder: Path) -> Iterator[Client]:
    """A client whose only worker cannot import streamem."""
    with empty_cluster() as client, workers(client, folder / "blocked"):
        yield client


def here() -> str:
    return os.environ.get("PYTHONPATH", "") or str(Path(able_workers.__file__).parents[2])


CALLS: dict[str, Callable[[Path, Client], object]] = {
    "fit": lambda data, client: GaussianMixture(2, **SETTINGS).fit(data, executor=client),
    "predict to a file": lambda data, client: _model(data).predict(data, out=data.with_name("y.zarr"), executor=client),
    "scores": lambda data, client: _model(data).score(data, executor=client),
    "sequences": lambda data, client: GaussianHMM(2, random_state=0, n_iter=2).fit(data, executor=client),
}


def _model(data: Path) -> GaussianMixture:
    return GaussianMixture(2, **SETTINGS).fit(data, executor="threads")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_no_worker_can_import_streamem(unable: Client, folder: Path, call: Callable[[Path, Client], object]) -> None:
    with pytest.raises(ClusterError, match="1 of 1 workers .*" + REMEDY):
        call(folder / "x.npy", unable)
    assert len(unable.nthreads()) == 1  # nothing was sent: it lives


def test_the_first_worker_of_an_empty_cluster_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with empty_cluster() as client:
        monkeypatch.setattr(client, "wait_for_workers", lambda *_, **__: None)
        with workers(client, folder / "blocked"), pytest.raises(ClusterError, match=REMEDY):
            GaussianMixture(2, **SETTINGS).fit(folder / "x.npy", executor=client)


@pytest.mark.slow
def test_able_workers_do_the_work_and_when_they_are_gone_the_others_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(able_workers, "WATCH_S", 0.1)
    gm = GaussianMixture(2, **SETTINGS)
    alone = fitted(gm.fit(folder / "x.npy", executor="threads"))
    with empty_cluster() as client, workers(client, here()) as (able,), workers(client, folder / "blocked"):
        with pytest.warns(RuntimeWarning, match="1 of 2 workers .*" + REMEDY):
            assert fitted(gm.fit(folder / "x.npy", executor=client)) == alone
        assert len(client.nthreads()) == 2
        refs = open_data(str(folder / "x.npy"), CHUNK_BYTES).chunks()
        task = EStep(model_of(gm, gm._now()), gm._now().state.params, None)
        with (
            DaskExecutor(client) as executor,
            pytest.warns(RuntimeWarning, match=REMEDY),
            pytest.raises(ClusterError, match="1 of 1 workers .*" + REMEDY),
        ):
            executor.reduce(task, refs, Countdown(5, able.kill))


def count(client: Client, source: Any) -> int:
    """Rows, by a task that imports little."""
    with DaskExecutor(client) as executor:
        return sum(executor.map(lambda chunk, ref: chunk.rows, source.chunks(), lambda done: None))


def test_modules_of_ones_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's class lies in a module that workers lack, until it is sent to them."""
    text = Path(watched_source.__file__).read_text()
    text = text[text.index("class WatchedSource") : text.index("class Countdown")]
    (tmp_path / "rows_of_ones_own.py").write_text(OWN + text)
    monkeypatch.syspath_prepend(tmp_path)  # the scheduler, in this process, takes what is uploaded too
    own = importlib.import_module("rows_of_ones_own")
    source = own.WatchedSource(open_data(str(folder / "x.npy"), ROWS * 16), own.watch)
    try:
        with empty_cluster() as client, workers(client, here()):
            with pytest.raises(ClusterError, match=r"No module named 'rows_of_ones_own'.*client.upload_file"):
                count(client, source)
            client.upload_file(own.__file__)
            assert count(client, source) == ROWS
    finally:
        del sys.modules["rows_of_ones_own"]


def test_other_versions_are_told_once(folder: Path) -> None:
    (old := folder / "old" / "numba-0.1.dist-info").mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    source = open_data(str(folder / "x.npy"), ROWS * 16)
    with empty_cluster() as client, workers(client, f"{folder / 'old'}{os.pathsep}{here()}"):
        with pytest.warns(RuntimeWarning, match=r"numba 0\.1 instead of \d.*last bits"):
            count(client, source)
        assert count(client, source) == ROWS


def test_workers_are_asked_once(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that does not answer, or dies meanwhile, is taken for able."""
    source = open_data(str(folder / "x.npy"), CHUNK_BYTES)
    assert count(client, source) == ROWS
    with monkeypatch.context() as patch:
        patch.setattr(able_workers, "_within", pytest.fail)
        assert count(client, source) == ROWS
    for answers in (None, dict.fromkeys(client.nthreads(), CommClosedError("died"))):
        monkeypatch.setattr(able_workers, "_VERSIONS", {})
        monkeypatch.setattr(able_workers, "_within", lambda seconds, call, answers=answers: answers)
        with caplog.at_level(logging.WARNING, "streamem"):
            assert count(client, source) == ROWS
        assert "did not tell within 20 s" in caplog.text
        caplog.clear()


def test_by_value_needs_no_module() -> None:
    """Functions of a notebook travel whole; of a library, by name."""

    def local() -> None:
        """By value."""

    assert able_workers.modules_of((local, np.ones(3), "text")) == frozenset()
    assert able_workers.modules_of(count) == {__name__}


class Deadly:
    """A client of a cluster that grows with its work, and of which each worker dies at once."""

    status = "running"
    scheduler = SimpleNamespace(address="tcp://scheduler:8786")

    def nthreads(self) -> dict[str, int]:
        return {}

    def submit(self, *what: Any, key: str, **settings: Any) -> Any:
        def result() -> None:
            raise KilledWorker(key, SimpleNamespace(address="tcp://worker:1"), 3)

        return SimpleFuture(result)


class SimpleFuture:
    def __init__(self, result: Callable[[], None]) -> None:
        self.result = result


def test_workers_that_all_die_before_they_have_work() -> None:
    """Dask says so in an error of its own."""
    with pytest.raises(
        ClusterError, match=r"tcp://scheduler:8786 died one after the other .*tcp://worker:1.* their logs"
    ):
        able_workers.AbleWorkers(Deadly()).threads(len)  # type: ignore[arg-type]
