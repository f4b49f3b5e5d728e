"""Cells of a notebook: in a running event loop, and interrupted; the cluster is as it was before."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, Future

from helpers.fit_bits import fitted
from helpers.watched_source import Countdown, WatchedSource, open_data
from streamem import GaussianMixture
from streamem.conformance.probes import Sums, ignore
from streamem.core.errors import ClusterError
from streamem.executors.dask import DaskExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

X = np.random.default_rng(4).normal(size=(1200, 3)) + 4.0 * (np.arange(1200) % 2)[:, None]
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "max_iter": 3, "tol": 0.0, "chunk_bytes": 2400}
SETTINGS |= {"init_params": "random_from_data"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", X)
    return str(tmp_path / "x.npy")


@contextmanager
def interrupted_after(seconds: float) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """What a notebook does when its stop button is pressed; what it keeps of the error lives on."""
    timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            yield caught
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def held(client: Client) -> list[str]:
    """What the scheduler knows of ours, once it has had time to forget; what the client holds."""

    def keys(dask_scheduler: Any) -> list[str]:
        return [str(key) for key in dask_scheduler.tasks if str(key).startswith("streamem-")]

    end = time.monotonic() + 20
    while (found := client.run_on_scheduler(keys)) and time.monotonic() < end:
        time.sleep(0.05)
    return found + [str(key) for key in client.futures if str(key).startswith("streamem-")]


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("call", ["fit", "predict", "write"])
def test_an_interrupted_cell_leaves_nothing(call: str, client: Client, path: str, tmp_path: Path) -> None:
    """And the next one works."""
    model = GaussianMixture(**SETTINGS).fit(path, executor="threads")
    here, slow = fitted(model), WatchedSource(open_data(path, 2400), lambda ref: time.sleep(0.05))
    with interrupted_after(0.7) as caught:
        if call == "fit":
            GaussianMixture(**SETTINGS | {"max_iter": 500}).fit(slow, executor=client)
        for _ in range(500):
            out = {"out": tmp_path / "y.parquet", "overwrite": True} if call == "write" else {}
            model.predict(slow, executor=client, **out)
    assert caught.value.__traceback__ is not None
    assert held(client) == []
    assert fitted(GaussianMixture(**SETTINGS).fit(path, executor=client)) == here
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_an_interrupt_between_a_task_and_its_name(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent already, and no future of it known here yet but to frames of the traceback."""
    submit, calls = Client.submit, []

    def interrupting(self: Client, *what: Any, **settings: Any) -> Any:
        future = submit(self, *what, **settings)
        calls.append(settings["key"])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return future

    with monkeypatch.context() as patch, DaskExecutor(client) as executor:
        patch.setattr(Client, "submit", interrupting)
        with pytest.raises(KeyboardInterrupt) as caught:
            executor.reduce(Sums(), open_data(path, 2400).chunks(), ignore)
    assert caught.value.__traceback__ is not None
    assert held(client) == []


def test_a_cell_runs_in_an_event_loop(client: Client, path: str) -> None:
    """As every cell of Jupyter does, with a client that is not asynchronous."""

    async def cell() -> GaussianMixture:
        return GaussianMixture(**SETTINGS).fit(path, executor=client)

    assert fitted(asyncio.run(cell())) == fitted(GaussianMixture(**SETTINGS).fit(path, executor="threads"))


def test_tasks_that_somebody_cancels(client: Client, path: str) -> None:
    """As `Client.restart` does: the scheduler is there, and is not called lost."""

    def cancel() -> None:
        client.cancel([Future(key, client) for key in list(client.futures)])

    slow = WatchedSource(open_data(path, 2400), lambda ref: time.sleep(0.02))
    with DaskExecutor(client) as executor, pytest.raises(ClusterError, match="were cancelled on the Dask cluster"):
        executor.reduce(Sums(), slow.chunks(), Countdown(2, cancel))
    assert held(client) == []
