"""Worker: seconds of one EM iteration of a Gaussian mixture on an array in memory, from a given start."""

from __future__ import annotations

import json
import sys
import warnings
from time import perf_counter
from typing import Any

import numpy as np

from bench.machine import peak_bytes


def data(n: int, d: int, k: int, dtype: str) -> tuple[Any, dict[str, Any]]:
    """Rows of a mixture with random covariances, and a start some way off."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(k, d)) * 2
    shapes = rng.normal(size=(k, d, d)) / np.sqrt(d)
    labels = rng.integers(k, size=n)
    x = np.empty((n, d), dtype=dtype)
    for j in range(k):
        rows = np.flatnonzero(labels == j)
        x[rows] = means[j] + rng.normal(size=(len(rows), d)) @ shapes[j].T
    start = {"weights_init": np.full(k, 1 / k), "means_init": means + 0.1 * rng.normal(size=(k, d))}
    return x, start


def main(engine: str, n: int, d: int, k: int, covariance_type: str, iterations: int, dtype: str) -> dict[str, Any]:
    """Difference of a long and a short run from the same start, divided by the difference in iterations."""
    warnings.simplefilter("ignore")
    x, start = data(n, d, k, dtype)
    shapes = {"full": np.broadcast_to(np.eye(d), (k, d, d)), "tied": np.eye(d), "diag": np.ones((k, d))}
    start["precisions_init"] = shapes.get(covariance_type, np.ones(k))
    _model(engine)(2, max_iter=1).fit(x[:1000])  # what the first fit imports and compiles is no part of an iteration
    before = peak_bytes()
    timed = {}
    for max_iter in (1, 1 + iterations):
        model = _model(engine)(k, covariance_type=covariance_type, tol=0.0, max_iter=max_iter, **start)
        began = perf_counter()
        model.fit(x)
        timed[max_iter] = perf_counter() - began
    seconds = (timed[1 + iterations] - timed[1]) / iterations
    rate = n * x.shape[1] * x.itemsize / seconds / 2**30
    return {
        "seconds": seconds,
        "added_bytes": peak_bytes() - before,
        "log_likelihood": float(model.score(x[:10_000].astype(np.float64))),
        "note": f"{n / seconds / 1e6:.2f} million rows/s, {rate:.2f} GiB/s",
    }


def _model(engine: str) -> Any:
    if engine == "streamem":
        from streamem import GaussianMixture

        return GaussianMixture
    import sklearn.mixture

    return sklearn.mixture.GaussianMixture


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
