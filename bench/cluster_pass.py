"""Worker: one EM iteration of a Gaussian mixture over Zarr, on threads and on a Dask cluster of processes."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import zarr

from bench.em_iteration import data
from bench.machine import peak_bytes
from streamem import GaussianMixture


def main(engine: str, n: int, d: int, k: int, iterations: int) -> dict[str, Any]:
    """Difference of a long and a short fit, divided by the difference in iterations.

    `engine` is "T threads" or "W workers", each of one thread.
    """
    warnings.simplefilter("ignore")
    count, kind = engine.split()
    x, start = data(n, d, k, "float32")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        path = str(Path(folder) / "x.zarr")
        zarr.create_array(store=path, shape=x.shape, chunks=(2**21 // (4 * d), d), dtype="f4")[:] = x
        executor = "threads" if kind.startswith("thread") else closing.enter_context(_client(int(count)))
        before = peak_bytes()
        timed = {}
        for max_iter in (1, 1 + iterations):
            model = GaussianMixture(
                k, tol=0.0, max_iter=max_iter, n_threads=int(count), **start, init_params="random_from_data"
            )
            began = perf_counter()
            model.fit(path, algorithm="batch", executor=executor)
            timed[max_iter] = perf_counter() - began
        seconds = (timed[1 + iterations] - timed[1]) / iterations
    return {
        "seconds": seconds,
        "added_bytes": peak_bytes() - before,
        "log_likelihood": model.lower_bound_,
        "note": f"{n / seconds / 1e6:.2f} million rows/s",
    }


def _client(n_workers: int) -> Any:
    from distributed import Client, LocalCluster

    closing = ExitStack()
    cluster = closing.enter_context(
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    )
    closing.enter_context(client := Client(cluster))
    client.close_cluster = closing  # kept as long as the client
    return client


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
