"""Worker: a Gaussian mixture from Parquet on two processes or cores, by us and by what a Dask or Spark user has."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.em_iteration import data

SHARE = 0.05


def main(engine: str, n: int, d: int, k: int, iterations: int) -> dict[str, Any]:
    """Seconds from the file to a fitted model, the start of a cluster or session not counted."""
    warnings.simplefilter("ignore")
    import pyarrow as pa
    import pyarrow.parquet as pq

    x, _ = data(n, d, k, "float64")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "x.parquet")
        pq.write_table(pa.table({f"c{i}": x[:, i] for i in range(d)}), path, row_group_size=n // 8)
        seconds, added, parameters = ENGINES[engine](path, d, k, iterations)
    return {
        "seconds": seconds,
        "added_bytes": added,
        "note": f"log-likelihood per row, all rows: {_score(x, *parameters):.4f}",
    }


def _ours(path: str, d: int, k: int, iterations: int) -> Any:
    from distributed import Client, LocalCluster

    from streamem import GaussianMixture

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        before, began = _tree_bytes(), perf_counter()
        gm = GaussianMixture(k, max_iter=iterations, tol=0, random_state=0, chunk_bytes="4MiB")
        gm.fit(path, algorithm="batch")
        seconds = perf_counter() - began
        assert client.status == "running"
        return seconds, _tree_bytes() - before, (gm.weights_, gm.means_, gm.covariances_)


def _sample(path: str, d: int, k: int, iterations: int) -> Any:
    """What fits one machine: a sample by Dask, then scikit-learn."""
    import dask.dataframe as dd
    from sklearn.mixture import GaussianMixture

    before, began = _tree_bytes(), perf_counter()
    rows = dd.read_parquet(path, split_row_groups=1).sample(frac=SHARE, random_state=0).compute().to_numpy()
    gm = GaussianMixture(k, max_iter=iterations, tol=0, random_state=0).fit(rows)
    return perf_counter() - began, _tree_bytes() - before, (gm.weights_, gm.means_, gm.covariances_)


def _spark(path: str, d: int, k: int, iterations: int) -> Any:
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    before, began = _tree_bytes(), perf_counter()
    table = VectorAssembler(inputCols=[f"c{i}" for i in range(d)], outputCol="features").transform(
        session.read.parquet(path)
    )
    model = GaussianMixture(k=k, maxIter=iterations, tol=0.0, seed=0).fit(table.select("features").cache())
    seconds, added = perf_counter() - began, _tree_bytes() - before
    means = np.array([gaussian.mean.toArray() for gaussian in model.gaussians])
    covariances = np.array([gaussian.cov.toArray() for gaussian in model.gaussians])
    weights = np.array(model.weights)
    session.stop()
    return seconds, added, (weights, means, covariances)


ENGINES: dict[str, Callable[..., Any]] = {
    "streamem": _ours,
    "scikit-learn on a Dask sample of 5 %": _sample,
    "Spark": _spark,
}


def _tree_bytes() -> int:
    """Peak resident memory of this process and of all that it started, as far as they live."""
    import psutil

    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(_peak(process.pid) for process in processes)


def _peak(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _score(x: Any, weights: Any, means: Any, covariances: Any) -> float:
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    terms = [
        np.log(w) + multivariate_normal(m, c, allow_singular=True).logpdf(x)
        for w, m, c in zip(weights, means, covariances, strict=True)
    ]
    return float(logsumexp(terms, axis=0).mean())


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
