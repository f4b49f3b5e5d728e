"""Dask clusters of this machine, whose workers are forked ready instead of started: a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster

from helpers import forked

assert forked.FORKS.get_start_method() == "forkserver", "the server's imports are chosen before Dask starts it"


CALM = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.admin.tick.interval": "1s",  # instead of 20 ms
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
}
"""A cluster that has nothing to do takes 3 % of a core instead of 9: one lives as long as its tests' process."""


@contextmanager
def cluster_of(n_workers: int, **settings: Any) -> Iterator[tuple[LocalCluster, Client]]:
    """Workers of one thread in processes of their own; never the default client, since other tests run on threads.

    What Dask sets in the environment of a new worker (`distributed.nanny.pre-spawn-environ`) does not reach these.
    """
    chosen = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", **settings}
    with (
        dask.config.set(CALM),
        LocalCluster(n_workers=n_workers, **chosen) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client
