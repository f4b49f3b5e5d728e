"""A whole story on a real S3 server: Parquet there, a cluster that fits, everybody killed, resumed, labels there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

from helpers.clusters import cluster_of
from helpers.fit_bits import fitted
from helpers.seaweed import KEY, SECRET, seaweed
from streamem import Address, GaussianMixture
from streamem.core.archive_reading import read_newest
from streamem.core.stored_objects import get, names_below, put, size_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROWS, FILES = 12_000, 24
SETTINGS: dict[str, Any] = {
    "n_components": 3,
    "random_state": 0,
    "max_iter": 40,
    "tol": 0.0,
    "chunk_bytes": 24_000,
    "init_params": "random_from_data",
}

FIT = """
import json, sys
from distributed import Client, LocalCluster
from streamem import Address, GaussianMixture

if __name__ == "__main__":
    settings, endpoint, labels = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
    options = {"region": "us-east-1", "endpoint": endpoint}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        data, checkpoint = Address("s3://bucket/rows", options), Address("s3://bucket/run/fit.npz", options)
        if not labels:
            GaussianMixture(**settings).fit(data, checkpoint=checkpoint)
        else:
            GaussianMixture(**settings | {"max_iter": 2}).fit(data).predict_proba(data, out=Address(labels[0], options))
"""


@pytest.fixture
def rows() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(11)
    return rng.normal(size=(ROWS, 3)) + 1.5 * rng.integers(3, size=(ROWS, 1))


def iteration(checkpoint: Address) -> int:
    """How far a checkpoint has come; 0 while there is none."""
    return 0 if size_of(checkpoint) is None else int(read_newest(checkpoint, "checkpoint").arrays["state.iteration"])


def killed_when(command: list[str], it_is_time: Callable[[], bool]) -> None:
    """A program that is killed, with all processes that it has started."""
    running, end = subprocess.Popen(command, start_new_session=True), monotonic() + 300
    try:
        while not it_is_time() and running.poll() is None and monotonic() < end:
            sleep(0.02)
    finally:
        os.killpg(running.pid, 9)
        running.wait()


@pytest.mark.long
def test_from_parquet_to_labels(rows: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the environment of each process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with seaweed(tmp_path) as bucket:
        options = {name: value for name, value in bucket.options.items() if "key" not in name}
        bucket = Address(bucket.text, options)
        data, checkpoint = bucket.below("rows"), bucket.below("run", "fit.npz")
        for i, part in enumerate(np.array_split(rows, FILES)):
            file = io.BytesIO()
            pq.write_table(pa.table(dict(zip("abc", part.T, strict=True))), file)
            put(data.below(f"day={i:02}", "rows.parquet"), file.getvalue())

        # A program with a cluster of its own is killed with all its workers, once three iterations are saved.
        (program := tmp_path / "fit.py").write_text(FIT)
        command = [sys.executable, str(program), json.dumps(SETTINGS), str(options["endpoint"])]
        killed_when(command, lambda: iteration(checkpoint) >= 3)
        assert 3 <= iteration(checkpoint) < SETTINGS["max_iter"]

        # Another while its workers write: nothing of it looks finished, and the next one writes over it.
        torn = bucket.below("torn.zarr")
        killed_when([*command, torn.text], lambda: len(names_below(torn)) >= 3)
        assert "zarr.json" not in names_below(torn)
        assert len(names_below(torn)) >= 3

        # The same call elsewhere, on another cluster, goes on: with the bits of a fit that nobody disturbed.
        labels = bucket.below("labels.zarr")
        with cluster_of(2) as (_, client):
            client.run(lambda: os.environ.update({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}))
            resumed = GaussianMixture(**SETTINGS).fit(data, checkpoint=checkpoint, executor=client)
            resumed.predict(data, out=labels, executor=client)
            resumed.predict_proba(data, out=torn, executor=client)
        undisturbed = GaussianMixture(**SETTINGS).fit(data, executor="threads")
        assert fitted(resumed) == fitted(undisturbed)
        assert len(resumed.report_.passes) == len(undisturbed.report_.passes)

        # The model and its labels lie beside the data, and others read them.
        resumed.save(bucket.below("model.npz"))
        again = GaussianMixture.load(bucket.below("model.npz"))
        found = zarr.open_array(zarr.storage.ObjectStore(labels.object_store(whole=True)), mode="r")
        np.testing.assert_array_equal(found[:], again.predict(data))
        mended = zarr.open_array(zarr.storage.ObjectStore(torn.object_store(whole=True)), mode="r")
        np.testing.assert_array_equal(mended[:], again.predict_proba(data))
        assert SECRET.encode() not in (get(bucket.below("model.npz")) or b"") + (get(checkpoint) or b"")
        assert xarray.DataArray(found[:]).sizes == {"dim_0": ROWS}


@pytest.mark.long
def test_the_example_on_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials and the server from the environment alone; labels are a Delta table beside the rows."""
    deltalake = pytest.importorskip("deltalake")
    with seaweed(tmp_path) as bucket:
        for name, value in (
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
            ("REGION", "us-east-1"),
            ("ENDPOINT_URL", str(bucket.options["endpoint"])),
            ("ALLOW_HTTP", "true"),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        example = Path(__file__).parents[2] / "examples" / "cluster_on_s3.py"
        done = subprocess.run(
            [sys.executable, str(example), "s3://bucket/story"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "the bits of a fit that nobody disturbed" in done.stdout
        labels = deltalake.DeltaTable("s3://bucket/story/labels")
        assert labels.to_pyarrow_table().num_rows == 24_000
        assert SECRET not in done.stdout + done.stderr
