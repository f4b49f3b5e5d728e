"""Rows on S3, a fit on a Dask cluster that is killed and resumed elsewhere, labels beside the rows as a Delta table.

    python cluster_on_s3.py s3://bucket/folder
    python cluster_on_s3.py                        # the same in a folder of this machine

It needs `pip install "streamem[obstore,delta]"`. Credentials come from the environment, here and on the workers:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; for a server of your own also
AWS_ENDPOINT_URL=http://127.0.0.1:8333 and AWS_ALLOW_HTTP=true.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import deltalake
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from obstore.fsspec import FsspecStore
from sklearn.exceptions import ConvergenceWarning

from streamem import GaussianMixture

COLUMNS = ["load", "latency"]
DAYS, ROWS = 12, 2_000

warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after 40 iterations, whatever it has reached


def model() -> GaussianMixture:
    """The same call, and so the same fit, in every process."""
    return GaussianMixture(3, random_state=0, max_iter=40, tol=0.0, init_params="random_from_data")


def store_of(folder: str):
    """The file system that an address or a path is on."""
    return FsspecStore("s3") if "://" in folder else fsspec.filesystem("file", auto_mkdir=True)


def write_rows(folder: str) -> None:
    """A Parquet file a day: idle, busy and saturated servers."""
    store, rng = store_of(folder), np.random.default_rng(0)
    for day in range(DAYS):
        kind = rng.choice(3, size=ROWS, p=[0.6, 0.3, 0.1])
        table = {
            "id": np.arange(day * ROWS, (day + 1) * ROWS),
            "load": rng.normal(np.array([0.2, 0.7, 0.95])[kind], 0.1),
            "latency": rng.normal(np.array([5.0, 9.0, 14.0])[kind], 2.0),
        }
        with store.open(f"{folder}/rows/day={day:02}/part.parquet", "wb") as file:
            pq.write_table(pa.table(table), file)


@contextlib.contextmanager
def cluster():
    """Two workers of this machine; in real life any cluster that Dask has a client for."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers, Client(workers):
        yield workers


def fit(folder: str) -> GaussianMixture:
    """Goes on from the checkpoint, if there is one; the active client is used."""
    return model().fit(f"{folder}/rows", columns=COLUMNS, checkpoint=f"{folder}/fit.npz")


def story(folder: str) -> None:
    """Rows, a fit that is killed, the same fit elsewhere, labels, and a look at them."""
    write_rows(folder)

    # A program with a cluster of its own is killed, with all its workers, in the middle of its fit.
    program = subprocess.Popen([sys.executable, __file__, "fit", folder], start_new_session=True)
    while not store_of(folder).exists(f"{folder}/fit.npz.2") and program.poll() is None:
        time.sleep(0.02)  # the last three iterations are kept; this one is there when three are saved
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL, "it was not killed in the middle"

    with cluster() as workers:
        # The same call elsewhere, and one of its workers dies too.
        killer = threading.Timer(0.5, os.kill, (workers.workers[0].pid, signal.SIGKILL))
        killer.start()
        resumed = fit(folder)
        killer.join()
        # Workers write the labels beside the rows.
        out = f"{folder}/labels/part.parquet"
        resumed.predict(f"{folder}/rows", columns=COLUMNS, out=out, id_columns=["id"], overwrite=True)

    undisturbed = model().fit(f"{folder}/rows", columns=COLUMNS, executor="threads")
    assert resumed.means_.tobytes() == undisturbed.means_.tobytes()
    print(f"resumed: {len(resumed.report_.passes)} passes in all, the bits of a fit that nobody disturbed")

    # Their folder becomes a Delta table, and nothing is copied.
    deltalake.convert_to_deltalake(f"{folder}/labels", mode="ignore")
    labels = deltalake.DeltaTable(f"{folder}/labels").to_pyarrow_table().sort_by("id")
    assert labels["id"].to_pylist() == list(range(DAYS * ROWS))
    for k, count in enumerate(np.bincount(labels["label"].to_numpy(), minlength=3)):
        print(f"{count:6} rows around load {resumed.means_[k, 0]:.2f}, latency {resumed.means_[k, 1]:.1f} ms")
    resumed.save(f"{folder}/model.npz")


def main() -> None:
    """Workers are new processes that import this file, so what it does stands in functions."""
    if sys.argv[1:2] == ["fit"]:
        with cluster():
            fit(sys.argv[2])
    elif sys.argv[1:]:
        story(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/labels")  # stores have no folders to be made
            story(folder)


if __name__ == "__main__":
    main()
