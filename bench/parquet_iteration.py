"""Worker: one EM iteration of a Gaussian mixture from Parquet on disk, by us on threads and by Spark on as many cores.

Spark takes no start for a mixture, so each engine starts as it does; an iteration is the difference of a long and a
short run. Both keep what they like in memory: Spark the rows, we no more than 96 MiB of decoded chunks.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.machine import peak_bytes
from bench.mixtures import draw


def main(engine: str, n: int, d: int, k: int, iterations: int) -> dict[str, Any]:
    """Seconds of one iteration."""
    warnings.simplefilter("ignore")
    import pyarrow as pa
    import pyarrow.parquet as pq

    x, _ = draw(n, d, k, 2.0, "float64")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "x.parquet")
        pq.write_table(pa.table({f"c{i}": x[:, i] for i in range(d)}), path, row_group_size=max(1, 2**21 // (8 * d)))
        del x
        fit = _spark(path, d, k) if engine == "Spark" else _ours(path, k)
        fit(1)
        before = peak_bytes()
        short, long = _timed(fit, 1), _timed(fit, 1 + iterations)
    return {"seconds": (long - short) / iterations, "added_bytes": peak_bytes() - before, "note": f"all: {long:.2f} s"}


def _timed(fit: Any, iterations: int) -> float:
    began = perf_counter()
    fit(iterations)
    return perf_counter() - began


def _ours(path: str, k: int) -> Any:
    from streamem import GaussianMixture

    return lambda iterations: GaussianMixture(k, max_iter=iterations, tol=0, random_state=0).fit(
        path, algorithm="batch"
    )


def _spark(path: str, d: int, k: int) -> Any:
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", "6g").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    rows = VectorAssembler(inputCols=[f"c{i}" for i in range(d)], outputCol="features")

    def fit(iterations: int) -> Any:
        table = rows.transform(session.read.parquet(path)).select("features")
        return GaussianMixture(k=k, maxIter=iterations, tol=0.0, seed=0).fit(table)

    return fit


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
