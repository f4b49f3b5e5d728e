"""Fit on a Dask cluster: here two processes of this machine, in real life any `distributed.Client`.

The data are a lazy Dask array over Zarr; its transformations run on the workers, block by block, in every pass.
"""

import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow.parquet as pq
import zarr
from distributed import Client, LocalCluster
from sklearn.base import clone

from streamem import GaussianMixture


def main():
    """Workers are new processes that import this file, so what it does stands in a function."""
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    readings = zarr.create_array(
        store=str(folder / "readings.zarr"), shape=(200_000, 4), chunks=(20_000, 4), dtype="f4"
    )
    for first in range(0, 200_000, 20_000):
        centres = np.array([[-3.0], [0.0], [3.0]])[rng.integers(3, size=20_000)]
        readings[first : first + 20_000] = 1000 + 50 * (centres + rng.normal(size=(20_000, 4)))

    x = da.from_zarr(readings)
    x = (x - x.mean(axis=0)) / x.std(axis=0)

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        gm = GaussianMixture(n_components=3, random_state=0, chunk_bytes="400kB")
        gm.fit(x, checkpoint=folder / "run.npz")  # the active client is used
        print(gm.report_)
        print(gm.predict(x))  # lazy, a Dask array
        gm.predict_proba(x, out=folder / "probabilities.parquet")  # written by the workers, a file a task

    here = clone(gm).fit(x)  # without a cluster: threads of this process
    assert np.array_equal(here.means_, gm.means_), "the same bits"
    written = pq.read_table(folder / "probabilities.parquet")
    print(f"{written.num_rows:,} rows in {len(list((folder / 'probabilities.parquet').iterdir()))} files")


if __name__ == "__main__":
    main()
