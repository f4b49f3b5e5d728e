"""Default clients that end while nothing runs: what follows does not go to threads without a word."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from streamem import GaussianMixture
from streamem.core.errors import ClusterError, SchedulerLostError
from streamem.executors.dask import DaskExecutor
from streamem.running.engines import _threads, _worker_memory, client_of

pytestmark = pytest.mark.cluster
X = np.random.default_rng(0).normal(size=(60, 2))
LOST = r"active lost its scheduler.*; make a new one, or pass executor='threads'"


@contextmanager
def scheduler() -> Iterator[LocalCluster]:
    """A cluster without workers; a client that loses its scheduler leaves Dask's setting as it was."""
    with dask.config.set(scheduler=None), LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        yield cluster


def await_end(client: Client) -> None:
    """Until Dask has given up."""
    end = time.monotonic() + 30
    while client.status != "closed" and time.monotonic() < end:
        time.sleep(0.02)
    assert client.status == "closed"


@pytest.mark.parametrize("seen", [True, False], ids=["used before", "never used"])
def test_a_client_that_is_lost_while_nothing_runs(seen: bool) -> None:
    """Every call says so, until threads are asked for by name after that."""
    with scheduler() as cluster:
        client = Client(cluster.scheduler_address, timeout=0.2)
        if seen:
            assert client_of(None) is client
        cluster.close()
        await_end(client)
    client_of("threads")  # by somebody who does not know it yet
    for _ in range(2):
        with pytest.raises(ClusterError, match=LOST):
            GaussianMixture(2, max_iter=1).fit(X)
    assert client_of("threads") is None
    assert client_of(None) is None


def test_a_client_that_nobody_holds_any_more() -> None:
    """As in a notebook whose cell says ``Client(address)``."""
    with scheduler() as cluster:
        Client(cluster.scheduler_address, timeout=0.2)
        ends = client_of(None)
        cluster.close()
        await_end(ends)
        del ends
    with pytest.raises(ClusterError, match=LOST):
        client_of(None)
    client_of("threads")


def test_whoever_closes_a_client_wants_threads() -> None:
    """And a new client makes up for one that was lost before."""
    with scheduler() as cluster, scheduler() as other:
        lost = Client(cluster.scheduler_address, timeout=0.2)
        cluster.close()
        await_end(lost)
        with Client(other.scheduler_address) as client:
            assert client_of(None) is client
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert client_of(None) is None


def test_a_cluster_closed_before_its_client_is_told_once() -> None:
    with scheduler() as cluster:
        client = Client(cluster)
        assert client_of(None) is client
    await_end(client)
    with pytest.warns(RuntimeWarning, match="cluster of the active client was closed: .* threads"):
        assert client_of(None) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client_of(None) is None


@pytest.mark.parametrize("ask", [_threads, _worker_memory, DaskExecutor])
def test_questions_before_the_first_pass_end_in_our_error(ask: Callable[[Client], object]) -> None:
    """How many threads there are, and with how much memory, of a client that is closed meanwhile."""
    with scheduler() as cluster, Client(cluster.scheduler_address, set_as_default=False) as client:
        client.close()
        with pytest.raises(SchedulerLostError, match=r"client was closed.*checkpoint='run.npz' goes on"):
            ask(client)
